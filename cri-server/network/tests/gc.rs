//! Collecting attachments nobody owns any more.

mod fake;

use fake::{Lab, conflist, pod};
use serde_json::json;

#[tokio::test]
async fn gc_detaches_the_unknown_and_tells_the_plugins() {
    let lab = Lab::new(&conflist("1.1.0", &["one", "two"]));
    let cni = lab.open();
    for id in ["kept", "stale"] {
        cni.setup(&pod(id)).await.unwrap();
    }
    drop(cni);
    let cni = lab.open();
    cni.setup(&pod("ours")).await.unwrap();
    lab.until(&cni, |status| status.ready).await;
    lab.forget_calls();
    cni.gc(&["kept".into()]).await.unwrap();
    let calls: Vec<String> = lab
        .calls()
        .into_iter()
        .filter(|c| !c.contains("STATUS"))
        .collect();
    assert_eq!(
        calls,
        [
            "two DEL stale /proc/self/ns/net",
            "one DEL stale /proc/self/ns/net",
            "one GC  ",
            "two GC  "
        ]
    );
    let valid = json!([{"containerID": "kept", "ifname": "eth0"},
                       {"containerID": "ours", "ifname": "eth0"}]);
    assert_eq!(lab.request("one", "GC")["cni.dev/valid-attachments"], valid);
    assert_eq!(cni.cached().unwrap(), ["kept", "ours"]);
}

#[tokio::test]
async fn gc_goes_on_after_a_failure_and_reports_all() {
    let lab = Lab::new(&conflist("1.1.0", &["one", "two"]));
    lab.open().setup(&pod("stale")).await.unwrap();
    for (plugin, verb) in [("two", "DEL"), ("one", "GC")] {
        lab.behave(plugin, verb, "exit 1");
    }
    let cni = lab.open();
    let text = cni.gc(&[]).await.unwrap_err().to_string();
    assert!(
        text.contains("plugin two: DEL") && text.contains("plugin one: GC"),
        "{text}"
    );
    let valid = json!([{"containerID": "stale", "ifname": "eth0"}]);
    assert_eq!(lab.request("two", "GC")["cni.dev/valid-attachments"], valid);
}

#[tokio::test]
async fn gc_is_not_called_where_it_may_not() {
    for config in [
        conflist("1.0.0", &["one"]),
        conflist("1.1.0", &["one"]).replace("{\"cni", "{\"disableGC\":true,\"cni"),
    ] {
        let lab = Lab::new(&config);
        let cni = lab.open();
        cni.gc(&[]).await.unwrap();
        assert!(
            lab.calls().iter().all(|call| !call.contains("GC")),
            "{config}"
        );
    }
}

#[tokio::test]
async fn an_abandoned_attachment_has_no_owner() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    lab.behave("one", "ADD", "sleep 1000");
    let cni = lab.open();
    {
        let pod = pod("p1");
        let setup = cni.setup(&pod);
        tokio::pin!(setup);
        while lab.calls().is_empty() {
            let pause = std::time::Duration::from_millis(5);
            assert!(tokio::time::timeout(pause, setup.as_mut()).await.is_err());
        }
    }
    cni.gc(&[]).await.unwrap();
    assert_eq!(lab.calls().last().unwrap(), "one DEL p1 /proc/self/ns/net");
    assert!(cni.cached().unwrap().is_empty());
}

/// The gate between GC and the rest is not held while orphans are detached one after another.
#[tokio::test]
async fn pods_are_attached_while_an_orphan_is_being_detached() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    lab.open().setup(&pod("stale")).await.unwrap();
    lab.behave(
        "one",
        "DEL",
        "until [ -e \"$LAB/go\" ]; do sleep 0.01; done",
    );
    let cni = lab.open();
    let gc = cni.gc(&[]);
    tokio::pin!(gc);
    while !lab.calls().iter().any(|call| call.contains("DEL stale")) {
        let pause = std::time::Duration::from_millis(5);
        assert!(tokio::time::timeout(pause, gc.as_mut()).await.is_err());
    }
    let new = pod("new");
    tokio::select! {
        biased;
        _ = gc.as_mut() => panic!("the orphan was not being detached any more"),
        attached = cni.setup(&new) => drop(attached.unwrap()),
    }
    std::fs::write(lab.path("go"), "").unwrap();
    gc.await.unwrap();
    assert_eq!(cni.cached().unwrap(), ["new"]);
}
