//! The client against shell scripts that play plugins: no privileges, no network.

mod fake;

use std::fs;

use fake::{Lab, conflist, pod};
use serde_json::json;
use skiff_cni::{CacheError, Error};

#[tokio::test]
async fn a_pod_is_attached_by_the_chain_in_order() {
    let lab = Lab::new(&conflist("0.4.0", &["one", "two"]));
    lab.answer(
        "one",
        &json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.0.0.9/24"}]}),
    );
    lab.answer(
        "two",
        &json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.0.0.9/24"},
                {"version": "6", "address": "fd00::9/64"}]}),
    );
    let cni = lab.open();
    let attachment = cni.setup(&pod("p1")).await.unwrap();
    assert_eq!(attachment.network, "podnet");
    assert_eq!(
        attachment.ips,
        [
            "10.0.0.9".parse::<std::net::IpAddr>().unwrap(),
            "fd00::9".parse().unwrap()
        ]
    );
    assert_eq!(
        lab.calls(),
        [
            "one ADD p1 /proc/self/ns/net",
            "two ADD p1 /proc/self/ns/net"
        ]
    );
    assert!(lab.request("one", "ADD").get("prevResult").is_none());
    let second = lab.request("two", "ADD");
    assert_eq!(second["prevResult"]["ips"][0]["address"], "10.0.0.9/24");
    assert_eq!(
        (&second["name"], &second["cniVersion"]),
        (&json!("podnet"), &json!("0.4.0"))
    );
    assert_eq!(cni.cached().unwrap(), ["p1"]);
}

#[tokio::test]
async fn a_pod_is_detached_in_reverse_with_the_result() {
    let lab = Lab::new(&conflist("1.0.0", &["one", "two"]));
    let cni = lab.open();
    cni.setup(&pod("p1")).await.unwrap();
    lab.forget_calls();
    cni.teardown("p1", None).await.unwrap();
    assert_eq!(
        lab.calls(),
        [
            "two DEL p1 /proc/self/ns/net",
            "one DEL p1 /proc/self/ns/net"
        ]
    );
    assert_eq!(
        lab.request("one", "DEL")["prevResult"]["ips"][0]["address"],
        "10.0.0.9/24"
    );
    assert!(cni.cached().unwrap().is_empty());
    lab.forget_calls();
    cni.teardown("p1", None).await.unwrap();
    cni.teardown("never-seen", None).await.unwrap();
    assert!(lab.calls().is_empty());
}

#[tokio::test]
async fn detaching_works_with_the_namespace_gone() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    let cni = lab.open();
    cni.setup(&pod("p1")).await.unwrap();
    lab.forget_calls();
    let gone = lab.path("gone");
    cni.teardown("p1", Some(&gone)).await.unwrap();
    assert_eq!(lab.calls(), ["one DEL p1 "]);
    // A left-over file is no namespace either.
    cni.setup(&pod("p2")).await.unwrap();
    fs::write(&gone, "").unwrap();
    lab.forget_calls();
    cni.teardown("p2", Some(&gone)).await.unwrap();
    assert_eq!(lab.calls(), ["one DEL p2 "]);
}

#[tokio::test]
async fn every_version_attaches_and_detaches() {
    let legacy = json!({"ip4": {"ip": "10.0.0.9/24", "routes": [{"dst": "0.0.0.0/0"}]}});
    let tagged = json!({"ips": [{"version": "4", "address": "10.0.0.9/24"}]});
    let plain = json!({"ips": [{"address": "10.0.0.9/24"}]});
    for (version, answer, del_has_result) in [
        ("", &legacy, false),
        ("0.1.0", &legacy, false),
        ("0.2.0", &legacy, false),
        ("0.3.0", &tagged, false),
        ("0.3.1", &tagged, false),
        ("0.4.0", &tagged, true),
        ("1.0.0", &plain, true),
        ("1.1.0", &plain, true),
    ] {
        let lab = Lab::new(&conflist(version, &["one", "two"]));
        lab.answer("one", answer);
        lab.answer("two", answer);
        let cni = lab.open();
        let attachment = cni.setup(&pod("p1")).await.unwrap();
        assert_eq!(
            attachment.ips,
            ["10.0.0.9".parse::<std::net::IpAddr>().unwrap()],
            "{version}"
        );
        let asked = if version.is_empty() { "0.1.0" } else { version };
        assert_eq!(lab.request("one", "ADD")["cniVersion"], asked);
        cni.teardown("p1", None).await.unwrap();
        assert_eq!(
            lab.request("one", "DEL").get("prevResult").is_some(),
            del_has_result,
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_failed_attachment_is_undone_by_the_whole_chain() {
    let lab = Lab::new(&conflist("1.0.0", &["one", "two", "three"]));
    lab.behave(
        "two",
        "ADD",
        r#"echo '{"code":11,"msg":"try again later"}'; exit 1"#,
    );
    let cni = lab.open();
    let error = cni.setup(&pod("p1")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "network podnet: plugin two: ADD: try again later (code 11)"
    );
    let calls: Vec<String> = lab
        .calls()
        .iter()
        .map(|c| c.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        calls,
        ["one ADD", "two ADD", "three DEL", "two DEL", "one DEL"]
    );
    assert!(cni.cached().unwrap().is_empty());
}

#[tokio::test]
async fn garbage_and_answers_without_an_address_are_undone_too() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    let cni = lab.open();
    for (said, expected) in [
        (
            "echo hello",
            "plugin one: ADD: bad answer: not a CNI result: expected value",
        ),
        ("true", "plugin one: ADD: bad answer: not a CNI result: EOF"),
        (
            "echo '{}'",
            "network podnet: the plugins gave the pod no address",
        ),
        (
            "echo oops >&2; exit 4",
            "plugin one: ADD: exit status: 4, it printed: oops",
        ),
    ] {
        lab.behave("one", "ADD", &format!("{said}; exit $?"));
        lab.forget_calls();
        let text = cni.setup(&pod("p1")).await.unwrap_err().to_string();
        assert!(text.contains(expected), "{said}: {text}");
        assert_eq!(
            lab.calls().last().unwrap(),
            "one DEL p1 /proc/self/ns/net",
            "{said}"
        );
        assert!(cni.cached().unwrap().is_empty(), "{said}");
    }
}

#[tokio::test]
async fn a_hanging_plugin_is_killed_and_undone() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    lab.behave("one", "ADD", "sleep 1000");
    let cni = lab.open_with(std::time::Duration::from_millis(500));
    let text = cni.setup(&pod("p1")).await.unwrap_err().to_string();
    assert!(
        text.contains("plugin one: ADD: killed after 0.5 s without an answer"),
        "{text}"
    );
    assert_eq!(lab.calls().last().unwrap(), "one DEL p1 /proc/self/ns/net");
    assert!(cni.cached().unwrap().is_empty());
}

#[tokio::test]
async fn what_could_not_be_undone_stays_recorded() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    lab.behave("one", "ADD", "exit 1");
    lab.behave("one", "DEL", "echo busy >&2; exit 1");
    let cni = lab.open();
    let error = cni.setup(&pod("p1")).await.unwrap_err();
    assert!(matches!(error, Error::NotUndone { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("undoing it failed too: network podnet: plugin one: DEL")
    );
    assert_eq!(cni.cached().unwrap(), ["p1"]);
    assert!(cni.teardown("p1", None).await.is_err());
    assert_eq!(cni.cached().unwrap(), ["p1"]);
    lab.behave("one", "DEL", "exit 0");
    cni.teardown("p1", None).await.unwrap();
    assert!(cni.cached().unwrap().is_empty());
}

#[tokio::test]
async fn a_pod_is_detached_by_the_configuration_that_attached_it() {
    let lab = Lab::new(&conflist("1.0.0", &["one", "two"]));
    let cni = lab.open();
    cni.setup(&pod("p1")).await.unwrap();
    lab.configure(None);
    lab.until(&cni, |status| !status.ready).await;
    drop(cni);
    let cni = lab.open();
    lab.forget_calls();
    cni.teardown("p1", None).await.unwrap();
    assert_eq!(lab.calls().len(), 2);
    assert_eq!(
        lab.request("one", "DEL")["prevResult"]["ips"][0]["address"],
        "10.0.0.9/24"
    );
}

#[tokio::test]
async fn an_interrupted_attachment_is_known_and_detached_at_the_next_start() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    lab.behave("one", "ADD", "sleep 1000");
    {
        let cni = lab.open();
        let pod = pod("p1");
        let setup = cni.setup(&pod);
        tokio::pin!(setup);
        while lab.calls().is_empty() {
            let pause = std::time::Duration::from_millis(5);
            assert!(tokio::time::timeout(pause, setup.as_mut()).await.is_err());
        }
    }
    let cni = lab.open();
    assert_eq!(cni.cached().unwrap(), ["p1"]);
    lab.forget_calls();
    cni.gc(&[]).await.unwrap();
    assert_eq!(lab.calls(), ["one DEL p1 /proc/self/ns/net"]);
    assert!(lab.request("one", "DEL").get("prevResult").is_none());
    assert!(cni.cached().unwrap().is_empty());
}

#[tokio::test]
async fn an_unreadable_record_is_detached_by_the_current_network() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    let cni = lab.open();
    cni.setup(&pod("p1")).await.unwrap();
    fs::write(lab.path("cache/p1.json"), "{\"version\":1,\"po").unwrap();
    lab.configure(None);
    lab.until(&cni, |status| !status.ready).await;
    let error = cni.teardown("p1", None).await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Orphan {
                record: CacheError::Corrupt { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("p1.json is unreadable"),
        "{error}"
    );
    lab.configure(Some(&conflist("1.0.0", &["one"])));
    lab.until(&cni, |status| status.ready).await;
    lab.forget_calls();
    cni.teardown("p1", None).await.unwrap();
    assert_eq!(lab.calls(), ["one DEL p1 "]);
    assert!(cni.cached().unwrap().is_empty());
}

#[tokio::test]
async fn attaching_again_detaches_what_was_recorded_first() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    let cni = lab.open();
    cni.setup(&pod("p1")).await.unwrap();
    lab.forget_calls();
    cni.setup(&pod("p1")).await.unwrap();
    let verbs = [
        "one DEL p1 /proc/self/ns/net",
        "one ADD p1 /proc/self/ns/net",
    ];
    assert_eq!(lab.calls(), verbs);
}

#[tokio::test]
async fn checking_asks_the_plugins_where_it_may() {
    let lab = Lab::new(&conflist("0.4.0", &["one", "two"]));
    let cni = lab.open();
    assert!(matches!(cni.check("p1").await, Err(Error::Unattached(_))));
    cni.setup(&pod("p1")).await.unwrap();
    lab.forget_calls();
    cni.check("p1").await.unwrap();
    assert_eq!(
        lab.calls(),
        [
            "one CHECK p1 /proc/self/ns/net",
            "two CHECK p1 /proc/self/ns/net"
        ]
    );
    assert_eq!(
        lab.request("two", "CHECK")["prevResult"]["ips"][0]["address"],
        "10.0.0.9/24"
    );
    lab.behave("two", "CHECK", "echo gone >&2; exit 1");
    let text = cni.check("p1").await.unwrap_err().to_string();
    assert_eq!(
        text,
        "network podnet: plugin two: CHECK: exit status: 1, it printed: gone"
    );

    for config in [
        conflist("0.3.1", &["one"]),
        conflist("1.0.0", &["one"]).replace("{\"cni", "{\"disableCheck\":true,\"cni"),
    ] {
        let lab = Lab::new(&config);
        let cni = lab.open();
        cni.setup(&pod("p1")).await.unwrap();
        lab.forget_calls();
        cni.check("p1").await.unwrap();
        assert!(lab.calls().is_empty(), "{config}");
    }
}

#[tokio::test]
async fn pods_are_attached_in_parallel() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    // Each waits until both run.
    let meet = "echo >> $LAB/here; while [ $(wc -l < $LAB/here) -lt 2 ]; do sleep 0.01; done";
    lab.behave("one", "ADD", meet);
    let cni = lab.open();
    let (a, b) = (pod("a"), pod("b"));
    let (first, second) = tokio::join!(cni.setup(&a), cni.setup(&b));
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test]
async fn a_pod_without_a_network_gets_the_reason() {
    let lab = Lab::new("{\n oops");
    let cni = lab.open();
    let text = cni.setup(&pod("p1")).await.unwrap_err().to_string();
    assert!(
        text.contains("network not ready") && text.contains("line 2"),
        "{text}"
    );
    assert!(cni.cached().unwrap().is_empty());
    let text = cni
        .teardown("../../etc/passwd", None)
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("pod id"), "{text}");
}
