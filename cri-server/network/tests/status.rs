//! What the client says about the network, and how it follows the directories.

mod fake;

use std::fs;

use fake::{Lab, conflist, pod};

#[tokio::test]
async fn a_good_configuration_is_ready_at_once() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    let status = lab.open().status();
    assert!(status.ready, "{}", status.message);
    assert_eq!(status.network.as_deref(), Some("podnet"));
    assert_eq!(status.file, Some(lab.path("net.d/10-podnet.conflist")));
    assert_eq!((status.reason, status.message.as_str()), ("", ""));
}

#[tokio::test]
async fn each_fault_has_its_words() {
    let lab = Lab::new("");
    fs::remove_dir_all(lab.path("net.d")).unwrap();
    let dir = lab.path("net.d").display().to_string();
    let status = lab.open().status();
    assert_eq!(status.reason, "NetworkConfigMissing");
    assert_eq!(
        status.message,
        format!("no network configuration: directory {dir} does not exist")
    );

    fs::create_dir(lab.path("net.d")).unwrap();
    let status = lab.open().status();
    assert_eq!(
        status.message,
        format!("no network configuration: no .conflist, .conf or .json file in {dir}")
    );

    lab.configure(Some("{\"name\": \"a\",\n\"plugins\": }"));
    let status = lab.open().status();
    assert_eq!(status.reason, "NetworkConfigInvalid");
    let place = format!("{dir}/10-podnet.conflist: not JSON: expected value at line 2 column 12");
    assert!(status.message.contains(&place), "{}", status.message);

    lab.configure(Some(&conflist("1.0.0", &["one", "absent"])));
    let status = lab.open().status();
    assert_eq!(status.reason, "NetworkPluginMissing");
    assert_eq!(
        status.message,
        format!(
            "network podnet ({dir}/10-podnet.conflist): plugin absent: \
             no executable file of that name in {}",
            lab.path("bin").display()
        )
    );
}

#[tokio::test]
async fn files_passed_over_are_remembered() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    fs::write(lab.path("net.d/00-bad.conf"), "{").unwrap();
    let status = lab.open().status();
    assert!(status.ready);
    assert_eq!(status.skipped.len(), 1);
    assert_eq!(status.skipped[0].0, lab.path("net.d/00-bad.conf"));
}

#[tokio::test]
async fn the_directories_are_followed() {
    let lab = Lab::new("");
    fs::remove_dir_all(lab.path("net.d")).unwrap();
    fs::remove_dir_all(lab.path("bin")).unwrap();
    let cni = lab.open();
    // The directory, then a file in it, then the plugin's directory and the plugin.
    fs::create_dir(lab.path("net.d")).unwrap();
    lab.until(&cni, |status| status.message.contains("no .conflist"))
        .await;
    lab.configure(Some(&conflist("1.0.0", &["one"])));
    lab.until(&cni, |status| status.reason == "NetworkPluginMissing")
        .await;
    fs::create_dir(lab.path("bin")).unwrap();
    lab.install("one");
    lab.until(&cni, |status| status.ready).await;
    // Changed, removed, back again, and a better one before it.
    lab.configure(Some("{"));
    lab.until(&cni, |status| status.reason == "NetworkConfigInvalid")
        .await;
    fs::remove_dir_all(lab.path("net.d")).unwrap();
    lab.until(&cni, |status| status.message.contains("does not exist"))
        .await;
    fs::create_dir(lab.path("net.d")).unwrap();
    lab.configure(Some(&conflist("1.0.0", &["one"])));
    lab.until(&cni, |status| status.ready).await;
    let better = conflist("1.0.0", &["one"]).replace("podnet", "better");
    fs::write(lab.path("net.d/05.conflist"), better).unwrap();
    lab.until(&cni, |status| status.network.as_deref() == Some("better"))
        .await;
    // The plugin goes.
    fs::remove_file(lab.path("bin/one")).unwrap();
    lab.until(&cni, |status| status.reason == "NetworkPluginMissing")
        .await;
}

#[tokio::test]
async fn plugins_beside_the_list_are_followed() {
    let lab = Lab::new(&conflist("1.0.0", &["one"]));
    let cni = lab.open();
    fs::create_dir(lab.path("net.d/podnet")).unwrap();
    fs::write(lab.path("net.d/podnet/10.conf"), r#"{"type":"absent"}"#).unwrap();
    lab.until(&cni, |status| status.message.contains("plugin absent"))
        .await;
    fs::write(lab.path("net.d/podnet/10.conf"), r#"{"type":"two"}"#).unwrap();
    lab.until(&cni, |status| status.ready).await;
    cni.setup(&pod("p1")).await.unwrap();
    assert_eq!(lab.calls().len(), 2);
}

#[tokio::test]
async fn a_plugins_own_status_counts() {
    let lab = Lab::new(&conflist("1.1.0", &["one", "two"]));
    lab.behave(
        "two",
        "STATUS",
        r#"echo '{"code":50,"msg":"no subnet yet"}'; exit 1"#,
    );
    let cni = lab.open();
    assert_eq!(cni.status().reason, "NetworkStatusPending");
    lab.until(&cni, |status| status.reason == "NetworkPluginNotReady")
        .await;
    let status = cni.status();
    assert!(!status.ready);
    assert!(
        status
            .message
            .ends_with("network podnet: plugin two: STATUS: no subnet yet (code 50)"),
        "{}",
        status.message
    );
    // Attaching is still possible: the specification says STATUS is informational.
    cni.setup(&pod("p1")).await.unwrap();
    lab.behave("two", "STATUS", "exit 0");
    fs::write(lab.path("net.d/touch"), "").unwrap();
    lab.until(&cni, |status| status.ready).await;
    assert_eq!(lab.request("one", "STATUS")["cniVersion"], "1.1.0");
}
