//! The client against the reference plugins (Debian's containernetworking-plugins), in network
//! and mount namespaces of its own, so that nothing is left on the host. Says `skipped` where it
//! cannot run: it needs root, unshare, ip and nsenter, and the plugins in /opt/cni/bin or
//! /usr/lib/cni.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use skiff_cni::{Cni, Pod, PortMapping, Protocol, Settings};

/// Set in the process that runs inside the namespaces.
const INSIDE: &str = "SKIFF_CNI_TEST_INSIDE";

#[tokio::test]
async fn reference_plugins_attach_check_and_detach() {
    if std::env::var_os(INSIDE).is_some() {
        return inside().await;
    }
    if let Some(reason) = cannot_run() {
        return skipped(reason);
    }
    let status = Command::new("unshare")
        .args(["--net", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "reference_plugins_attach_check_and_detach",
            "--nocapture",
        ])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

async fn inside() {
    let lab = Lab::new();
    dual_stack(&lab).await;
    namespace_gone(&lab).await;
    forgotten(&lab).await;
    single_plugin_without_version(&lab).await;
    if newest_version().as_deref() == Some("1.1.0") {
        status_and_gc(&lab).await;
    } else {
        skipped("STATUS and GC: the bridge plugin is older than version 1.1.0");
    }
    if run("iptables", &["-t", "nat", "-N", "SKIFF-TEST"]).is_ok() {
        host_port(&lab).await;
    } else {
        skipped("portmap: iptables does not work here");
    }
}

async fn dual_stack(lab: &Lab) {
    let cni = lab
        .open(&list("1.0.0", &[bridge(), json!({"type": "tuning"})]))
        .await;
    let pod = lab.pod("dual");
    let attachment = cni.setup(&pod).await.unwrap();
    let [IpAddr::V4(v4), IpAddr::V6(v6)] = attachment.ips[..] else {
        panic!("addresses {:?}", attachment.ips);
    };
    let addresses = pod_run(&pod, &["ip", "-o", "addr", "show", "eth0"]).unwrap();
    assert!(addresses.contains(&format!("inet {v4}/")), "{addresses}");
    assert!(addresses.contains(&format!("inet6 {v6}/")), "{addresses}");
    assert_eq!(lab.leases(), [v4.to_string(), v6.to_string()]);
    cni.check(&pod.id).await.unwrap();
    pod_run(
        &pod,
        &["ip", "addr", "del", &format!("{v4}/24"), "dev", "eth0"],
    )
    .unwrap();
    let text = cni.check(&pod.id).await.unwrap_err().to_string();
    assert!(text.contains("plugin bridge: CHECK"), "{text}");
    cni.teardown(&pod.id, Some(&pod.netns)).await.unwrap();
    assert!(lab.leases().is_empty());
    assert!(pod_run(&pod, &["ip", "link", "show", "eth0"]).is_err());
    cni.teardown(&pod.id, Some(&pod.netns)).await.unwrap();
}

async fn namespace_gone(lab: &Lab) {
    let cni = lab.open(&list("1.0.0", &[bridge()])).await;
    let pod = lab.pod("gone");
    cni.setup(&pod).await.unwrap();
    run("umount", &[pod.netns.to_str().unwrap()]).unwrap();
    cni.teardown(&pod.id, Some(&pod.netns)).await.unwrap();
    assert!(lab.leases().is_empty());
}

/// A daemon that died with two pods attached, of which its successor knows one.
async fn forgotten(lab: &Lab) {
    let config = list("1.0.0", &[bridge()]);
    let (kept, stale) = (lab.pod("kept"), lab.pod("stale"));
    let cni = lab.open(&config).await;
    let address = cni.setup(&kept).await.unwrap().ips[0];
    cni.setup(&stale).await.unwrap();
    let cni = lab.open(&config).await;
    assert_eq!(cni.cached().unwrap(), ["kept", "stale"]);
    cni.gc(&["kept".into()]).await.unwrap();
    assert_eq!(cni.cached().unwrap(), ["kept"]);
    assert_eq!(lab.leases()[0], address.to_string());
    assert_eq!(lab.leases().len(), 2);
    cni.teardown("kept", None).await.unwrap();
    assert!(lab.leases().is_empty());
}

async fn single_plugin_without_version(lab: &Lab) {
    let mut config = bridge();
    config["name"] = json!("podnet");
    config["ipam"]["ranges"].as_array_mut().unwrap().truncate(1);
    let cni = lab.open(&config).await;
    let pod = lab.pod("legacy");
    let attachment = cni.setup(&pod).await.unwrap();
    assert!(attachment.ips[0].is_ipv4(), "{attachment:?}");
    cni.teardown(&pod.id, Some(&pod.netns)).await.unwrap();
    assert!(lab.leases().is_empty());
}

/// The reference plugins accept GC and do nothing for it.
async fn status_and_gc(lab: &Lab) {
    let cni = lab.open(&list("1.1.0", &[bridge()])).await;
    let pod = lab.pod("status");
    cni.setup(&pod).await.unwrap();
    cni.gc(&[]).await.unwrap();
    cni.check(&pod.id).await.unwrap();
    cni.teardown(&pod.id, Some(&pod.netns)).await.unwrap();
    assert!(lab.leases().is_empty());
}

/// Without CHECK: Debian's portmap looks for the rules of both families with one address.
async fn host_port(lab: &Lab) {
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let cni = lab.open(&list("1.0.0", &[bridge(), portmap])).await;
    let mut pod = lab.pod("port");
    let port = PortMapping {
        host_port: 8080,
        container_port: 80,
        protocol: Protocol::Tcp,
        host_ip: None,
    };
    pod.port_mappings.push(port);
    let address = cni.setup(&pod).await.unwrap().ips[0];
    let rules = || run("iptables", &["-t", "nat", "-S"]).unwrap();
    assert!(
        rules().contains(&format!("--to-destination {address}:80")),
        "{}",
        rules()
    );
    cni.teardown(&pod.id, Some(&pod.netns)).await.unwrap();
    assert!(!rules().contains(&address.to_string()), "{}", rules());
}

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        fs::create_dir(lab.0.path().join("net.d")).unwrap();
        lab
    }

    /// A client whose network is ready, which takes a moment where plugins are asked.
    async fn open(&self, config: &Value) -> Cni {
        let data_dir = self.0.path().join("leases");
        let config = config
            .to_string()
            .replace("@DATA@", data_dir.to_str().unwrap());
        fs::write(self.0.path().join("net.d/10.conflist"), config).unwrap();
        let cni = Cni::open(Settings {
            conf_dir: self.0.path().join("net.d"),
            cache_dir: self.0.path().join("cache"),
            ..Settings::default()
        });
        let cni = cni.unwrap();
        while cni.status().reason == "NetworkStatusPending" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(cni.status().ready, "{:?}", cni.status());
        cni
    }

    /// A pod in a new network namespace.
    fn pod(&self, id: &str) -> Pod {
        let netns = self.0.path().join(format!("{id}.netns"));
        fs::write(&netns, "").unwrap();
        run("unshare", &[&format!("--net={}", netns.display()), "true"]).unwrap();
        Pod {
            id: id.into(),
            name: id.into(),
            namespace: "test".into(),
            netns,
            ..Pod::default()
        }
    }

    /// Addresses taken, IPv4 before IPv6.
    fn leases(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path().join("leases/podnet")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut leases: Vec<IpAddr> = names.filter_map(|name| name.parse().ok()).collect();
        leases.sort();
        leases.iter().map(ToString::to_string).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.0.path()).unwrap().flatten() {
            if entry.path().extension().is_some_and(|e| e == "netns") {
                let _ = run("umount", &[entry.path().to_str().unwrap()]);
            }
        }
    }
}

fn list(version: &str, plugins: &[Value]) -> Value {
    json!({"cniVersion": version, "name": "podnet", "plugins": plugins})
}

fn bridge() -> Value {
    json!({
        "type": "bridge", "bridge": "skiff-test0", "isGateway": true, "ipMasq": false,
        "ipam": {
            "type": "host-local", "dataDir": "@DATA@",
            "ranges": [[{"subnet": "10.213.7.0/24"}], [{"subnet": "fd00:213:7::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    })
}

/// The newest version the bridge plugin speaks.
fn newest_version() -> Option<String> {
    let bridge = Settings::default()
        .bin_dirs
        .iter()
        .map(|dir| dir.join("bridge"))
        .find(|p| p.exists())?;
    let mut command = Command::new(bridge);
    command
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child
        .stdin
        .take()?
        .write_all(br#"{"cniVersion":"1.0.0"}"#)
        .ok()?;
    let answer: Value = serde_json::from_slice(&child.wait_with_output().ok()?.stdout).ok()?;
    answer["supportedVersions"]
        .as_array()?
        .last()?
        .as_str()
        .map(str::to_owned)
}

fn cannot_run() -> Option<&'static str> {
    let installed = |name: &str| {
        Settings::default()
            .bin_dirs
            .iter()
            .map(|dir| dir.join(name))
            .any(|path| path.exists())
    };
    if !["bridge", "host-local", "tuning", "portmap"]
        .into_iter()
        .all(installed)
    {
        return Some("the reference plugins are not installed");
    }
    if run(
        "unshare",
        &["--net", "--mount", "ip", "link", "add", "type", "bridge"],
    )
    .is_err()
    {
        return Some("no privilege to make network namespaces and bridges");
    }
    None
}

#[expect(clippy::print_stdout, reason = "how a test says that it did nothing")]
fn skipped(reason: &str) {
    println!("skipped: {reason}");
}

fn pod_run(pod: &Pod, command: &[&str]) -> Result<String, String> {
    let netns = format!("--net={}", pod.netns.display());
    let mut all = vec![netns.as_str()];
    all.extend(command);
    run("nsenter", &all)
}

/// Standard output, or standard error of a command that failed.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|e| e.to_string())?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}
