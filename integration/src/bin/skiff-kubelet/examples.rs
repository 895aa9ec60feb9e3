//! The worked examples of Kubernetes' announcements, from the manifests in `integration/examples`:
//! as people write them, but for their images, which are the lab's.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, ensure};

use crate::cluster::{kubectl, kubectl_until, kubectl_with};
use crate::lab::{Given, Lab};
use crate::status::Pod;
use crate::workloads;

macro_rules! example {
    ($name:literal) => {
        include_str!(concat!("../../../examples/", $name, ".yaml"))
    };
}

/// The bytes of the node's disk that the raw volume is, behind the device `/dev/loop0`.
const RAW: &str = "/var/tmp/raw";

async fn apply(manifests: &str) -> anyhow::Result<()> {
    kubectl_with(&["apply", "-f", "-"], manifests)
        .await
        .map(drop)
}

/// Applies manifests with one pod, which then runs, and returns the id of its only container.
async fn run(
    lab: &Lab,
    manifests: &str,
    pod: &str,
    container: &str,
) -> anyhow::Result<(Given, Pod, String)> {
    apply(manifests).await?;
    let given = lab.known(pod);
    given.runs().await?;
    lab.midway().await?;
    let pod = given.runs().await?;
    let main = pod
        .container(container)
        .with_context(|| format!("no container {container}"))?;
    let id = main.id().to_owned();
    Ok((given, pod, id))
}

/// What a container serves, which runs before it listens.
async fn page_of(lab: &Lab, id: &str, port: u16) -> anyhow::Result<String> {
    let ask = format!("until wget -q -O - http://127.0.0.1:{port}/; do sleep 0.2; done");
    lab.exec(id, &ask).await
}

/// nginx as root of a user namespace.
pub(crate) async fn a_user_namespace(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (given, _, id) = run(&lab, example!("user-namespace"), "userns", "nginx").await?;
    let map = lab
        .exec(&id, "awk '{print $1, ($2 > 65535), $3}' /proc/1/uid_map")
        .await?;
    ensure!(map == "0 1 65536", "mapped as {map:?}");
    let page = page_of(&lab, &id, 80).await?;
    ensure!(page.contains("Welcome to nginx"), "{page:?}");
    given.remove().await
}

/// An init container fetches a secret, a proxy beside the main container hands it on.
pub(crate) async fn a_sidecar(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (given, pod, id) = run(&lab, example!("sidecar"), "bookings", "main").await?;
    lab.logs(&id, &["sesame"]).await?;
    let restarts = pod.containers().map(|one| one.restarts()).sum::<u64>();
    ensure!(restarts == 0, "{restarts} restarts");
    given.remove().await
}

/// In a namespace whose images have to be signed a pod waits, and says for what.
pub(crate) async fn an_unsigned_image(lab: Arc<Lab>) -> anyhow::Result<()> {
    apply(example!("unsigned")).await?;
    let why = "jsonpath={.status.containerStatuses[0].state.waiting}";
    // as the reason, or between attempts in the message
    let ask = ["-n", "signed", "get", "pod", "unsigned", "-o", why];
    kubectl_until(&ask, |why| why.contains("SignatureValidationFailed")).await?;
    let about = "involvedObject.name=unsigned,reason=Failed";
    let ask = ["-n", "signed", "get", "events", "--field-selector", about];
    kubectl_until(&ask, |events| events.contains("requires a signature")).await?;
    lab.midway().await?;
    // a daemon that is new has to refuse by itself
    apply(&example!("unsigned").replace("name: unsigned", "name: unsigned-again")).await?;
    let about = "involvedObject.name=unsigned-again,reason=Failed";
    let ask = ["-n", "signed", "get", "events", "--field-selector", about];
    kubectl_until(&ask, |events| events.contains("requires a signature")).await?;
    kubectl(&["delete", "namespace", "signed", "--wait=false"])
        .await
        .map(drop)
}

/// Memory that is asked for is protected, time is limited.
pub(crate) async fn memory_qos(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (given, _, id) = run(&lab, example!("memory-qos"), "example", "nginx").await?;
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.low", "67108864"),
        ("cpu.max", "50000 100000"),
    ] {
        let is = lab.cgroup(&id, file).await?;
        ensure!(is == value, "{file} is {is}, not {value}");
    }
    given.remove().await
}

/// A counter whose lines `kubectl logs` tells.
pub(crate) async fn a_counter(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (given, ..) = run(&lab, example!("counter"), "counting", "count").await?;
    let log = kubectl_until(&["logs", "counting"], |log| log.lines().count() > 2).await?;
    let numbers = log.lines().enumerate();
    let mut wrong = numbers.filter(|(i, line)| !line.starts_with(&format!("{i}: ")));
    ensure!(wrong.next().is_none(), "{log:?}");
    given.remove().await
}

/// nginx with its configuration from a ConfigMap.
pub(crate) async fn a_configuration(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (given, _, id) = run(&lab, example!("nginx-config"), "configured", "nginx").await?;
    let page = page_of(&lab, &id, 8080).await?;
    ensure!(page == "from the ConfigMap", "{page:?}");
    given.remove().await
}

/// Three replicas, rolled over to another image.
pub(crate) async fn a_deployment(lab: Arc<Lab>) -> anyhow::Result<()> {
    apply(example!("deployment")).await?;
    let rolled = [
        "rollout",
        "status",
        "deployment/nginx-deployment",
        "--timeout=240s",
    ];
    kubectl(&rolled).await?;
    workloads::middle(&lab, "app=nginx").await?;
    let newer = "gcr.io/k8s-staging-cri-tools/hostnet-nginx-amd64:latest";
    let set = format!("nginx={newer}");
    kubectl(&["set", "image", "deployment/nginx-deployment", &set]).await?;
    kubectl(&rolled).await?;
    let image = "jsonpath={range .items[*]}{.metadata.deletionTimestamp}{.spec.containers[0].image}{\"\\n\"}{end}";
    let images = kubectl(&["get", "pods", "-l", "app=nginx", "-o", image]).await?;
    let now = images.lines().filter(|one| *one == newer).count();
    ensure!(now == 3, "{images}");
    workloads::delete("deployment", "nginx-deployment").await
}

/// A pod of a RuntimeClass is run by the class's handler.
pub(crate) async fn a_runtime_class(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (given, pod, id) = run(&lab, example!("runtime-class"), "in-a-class", "nginx").await?;
    let sandboxes = lab.sandboxes().await?;
    let ours = sandboxes
        .iter()
        .find(|one| one.metadata.as_ref().is_some_and(|of| of.uid == pod.uid()));
    let handler = &ours.context("no such pod")?.runtime_handler;
    ensure!(handler == "crun", "run by {handler:?}");
    let page = page_of(&lab, &id, 80).await?;
    ensure!(page.contains("Welcome to nginx"), "{page:?}");
    given.remove().await
}

/// A claim's device, raw, where the container wants it: what is written there is on the disk.
pub(crate) async fn a_raw_device(lab: Arc<Lab>) -> anyhow::Result<()> {
    fs::write(RAW, vec![0; 16 << 20]).with_context(|| format!("write {RAW}"))?;
    let set = Command::new("losetup").args(["/dev/loop0", RAW]).output()?;
    let why = String::from_utf8_lossy(&set.stderr);
    ensure!(set.status.success(), "losetup: {why}");
    let (given, _, id) = run(&lab, example!("block-volume"), "my-pod", "my-container").await?;
    let script = "test -b /dev/block && echo -n written | dd of=/dev/block conv=fsync 2>/dev/null && echo it is";
    let said = lab.exec(&id, script).await?;
    ensure!(said == "it is", "{said:?}");
    let bytes = fs::read(RAW).with_context(|| format!("read {RAW}"))?;
    ensure!(bytes.starts_with(b"written"), "nothing reached the disk");
    given.remove().await
}
