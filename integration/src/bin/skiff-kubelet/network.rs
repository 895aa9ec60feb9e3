//! Networks, host ports and the namespaces that containers share.

use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::Lab;
use crate::manifest::{IDLE, container, idle, pod};
use crate::status::Pod;

/// The address that the suite gives the node.
const NODE: &str = "192.168.77.1";

fn id(pod: &Pod, name: &str) -> anyhow::Result<String> {
    let container = pod.container(name);
    Ok(container
        .with_context(|| format!("no container {name}"))?
        .id()
        .to_owned())
}

/// The first line that somebody at `address` says.
async fn first_line(address: &str, port: u16) -> anyhow::Result<String> {
    let ask = async {
        let mut stream = TcpStream::connect((address, port)).await?;
        stream.write_all(b"GET /name HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer.lines().last().unwrap_or_default().to_owned())
    };
    let answer = tokio::time::timeout(std::time::Duration::from_secs(20), ask).await;
    answer
        .context("no answer")?
        .with_context(|| format!("ask {address}:{port}"))
}

fn server(name: &str, says: &str, port: u16) -> serde_json::Value {
    let script = format!("mkdir /w; echo {says} >/w/name; httpd -p {port} -h /w; {IDLE}");
    container(
        name,
        &script,
        json!({
            "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1, "timeoutSeconds": 60},
        }),
    )
}

/// A port of the node leads to one of the pod, as long as the pod is there.
pub(crate) async fn a_host_port(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut main = server("main", "behind-the-port", 8080);
    main["ports"] = json!([{"containerPort": 8080, "hostPort": 18099}]);
    let (given, pod) = lab.run(&pod("host-port", &[main], json!({}))).await?;
    for (address, port) in [(NODE, 18099), (pod.ip(), 8080)] {
        let said = first_line(address, port).await?;
        ensure!(said == "behind-the-port", "{address}:{port} says {said:?}");
    }
    given.remove().await?;
    ensure!(
        first_line(NODE, 18099).await.is_err(),
        "the port is still open"
    );
    Ok(())
}

/// Containers of a pod reach each other on its loopback, and the node reaches its address.
pub(crate) async fn one_network_per_pod(lab: Arc<Lab>) -> anyhow::Result<()> {
    let containers = [server("web", "the-web", 8081), idle("other", json!({}))];
    let (given, pod) = lab.run(&pod("pod-network", &containers, json!({}))).await?;
    let heard = lab
        .exec(
            &id(&pod, "other")?,
            "wget -q -O - http://127.0.0.1:8081/name",
        )
        .await?;
    ensure!(heard == "the-web", "the other container hears {heard:?}");
    ensure!(first_line(pod.ip(), 8081).await? == "the-web");
    let (other_given, other) = lab.run(&pod_apart("pod-network-2")).await?;
    ensure!(
        other.ip() != pod.ip(),
        "two pods have the address {}",
        pod.ip()
    );
    let ask = format!("wget -q -O - http://{}:8081/name", pod.ip());
    let heard = lab.exec(&id(&other, "main")?, &ask).await?;
    ensure!(heard == "the-web", "the other pod hears {heard:?}");
    other_given.remove().await?;
    given.remove().await
}

fn pod_apart(name: &str) -> serde_json::Value {
    pod(name, &[idle("main", json!({}))], json!({}))
}

/// A pod may be in the node's own network, IPC and PID namespaces.
pub(crate) async fn host_network(lab: Arc<Lab>) -> anyhow::Result<()> {
    let spec = json!({"hostNetwork": true, "hostPID": true, "hostIPC": true});
    let (given, pod) = lab
        .run(&pod("host-network", &[idle("main", json!({}))], spec))
        .await?;
    for space in ["net", "ipc", "pid"] {
        let inside = lab
            .exec(
                &id(&pod, "main")?,
                &format!("readlink /proc/self/ns/{space}"),
            )
            .await?;
        let node = std::fs::read_link(format!("/proc/self/ns/{space}"))?;
        ensure!(
            node.to_string_lossy() == inside,
            "{space}: {inside}, and {node:?} on the node"
        );
    }
    given.remove().await
}

/// Names: the host's name, more hosts, and the servers that resolve others.
pub(crate) async fn names(lab: Arc<Lab>) -> anyhow::Result<()> {
    let spec = json!({
        "hostname": "captain",
        "hostAliases": [{"ip": "10.9.8.7", "hostnames": ["far", "away"]}],
        "dnsPolicy": "None",
        "dnsConfig": {
            "nameservers": ["10.1.2.3"],
            "searches": ["lab.example"],
            "options": [{"name": "ndots", "value": "2"}],
        },
    });
    let (given, pod) = lab
        .run(&pod("names", &[idle("main", json!({}))], spec))
        .await?;
    let main = id(&pod, "main")?;
    let hostname = lab.exec(&main, "hostname").await?;
    ensure!(hostname == "captain", "hostname {hostname}");
    let hosts = lab.exec(&main, "cat /etc/hosts").await?;
    for line in ["10.9.8.7\tfar\taway", &format!("{}\tcaptain", pod.ip())] {
        ensure!(
            hosts.lines().any(|one| one == line),
            "{line:?} is not in {hosts:?}"
        );
    }
    let resolver = lab.exec(&main, "cat /etc/resolv.conf").await?;
    let lines: Vec<&str> = resolver.lines().collect();
    ensure!(
        lines
            == [
                "search lab.example",
                "nameserver 10.1.2.3",
                "options ndots:2"
            ],
        "{lines:?}"
    );
    given.remove().await
}

/// With a shared process namespace each container sees the others' processes, and none is PID 1.
pub(crate) async fn shared_processes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let marked = container("marked", "sleep 271828", json!({}));
    let spec = json!({"shareProcessNamespace": true});
    let containers = [marked, idle("main", json!({}))];
    let (given, pod) = lab.run(&pod("shared-pid", &containers, spec)).await?;
    let main = id(&pod, "main")?;
    let seen = lab.exec(&main, "ps | grep -c '[s]leep 271828'").await?;
    ensure!(seen != "0", "the other container's processes are not seen");
    let first = lab
        .exec(&main, "cat /proc/1/cmdline | tr '\\0' ' '")
        .await?;
    ensure!(!first.contains("sleep"), "PID 1 is a container's: {first}");
    lab.exec(&main, "kill -KILL $(pgrep -f '[s]leep 271828')")
        .await?;
    let pod = given.restarted("marked", 1).await?;
    ensure!(
        pod.container("main").is_some_and(|one| one.restarts() == 0),
        "main restarted, too"
    );
    given.remove().await
}
