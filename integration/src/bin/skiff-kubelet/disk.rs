//! Space on the node's disk: pods that use more than they may are evicted, and images that nobody
//! uses go when it runs out. The kubelet goes by the runtime's numbers in both.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use skiff_integration::registry::Registry;

use crate::cluster::kubectl_until;
use crate::http;
use crate::kubelet::{READ_ONLY_PORT, reconfigure};
use crate::lab::{Given, LIMIT, Lab};
use crate::load;
use crate::manifest::{IDLE, container, idle, pod, scratch};
use crate::node::LOOK;
use crate::status::Pod;

const MIB: u64 = 1 << 20;
/// Bytes of the image that nobody uses, unpacked.
const LARGE: u64 = 256 * MIB;
/// An image that is younger is not removed.
const LEAST_AGE: Duration = Duration::from_secs(1);
/// Of the images of the registry, those that nothing else of the suite uses: one that a container
/// runs from, one that a pod mounts, one that the suite's script configured as pinned, and one more.
const RUNS: &str = "gcr.io/k8s-staging-cri-tools/test-image-1:latest";
const MOUNTED: &str = "gcr.io/k8s-staging-cri-tools/test-image-2:latest";
const PINNED: &str = "registry.k8s.io/e2e-test-images/httpd:2.4.39-4";
const UNUSED: &str = "gcr.io/k8s-staging-cri-tools/test-image-3:latest";
/// The file system of images, volumes and logs: the node has but one.
const DISK: &str = "/var/lib/skiff";

/// What a pod has been evicted for.
async fn evicted(given: &Given) -> anyhow::Result<String> {
    let evicted = |pod: &Pod| pod.phase() == "Failed" && pod.0["status"]["reason"] == "Evicted";
    let pod = given.until("it is evicted", evicted).await?;
    let message = pod.0["status"]["message"].as_str();
    Ok(message.unwrap_or_default().to_owned())
}

/// A container that writes more into its own file system than it may brings its pod down, one that
/// keeps to its limit does not.
pub(crate) async fn a_layer_that_grows_is_evicted(lab: Arc<Lab>) -> anyhow::Result<()> {
    let writes = |name: &str, limit: &str| {
        container(
            name,
            &format!("dd if=/dev/zero of=/file bs=1M count=16; {IDLE}"),
            json!({"resources": {"limits": {"ephemeral-storage": limit}}}),
        )
    };
    let modest = pod("disk-modest", &[writes("main", "64Mi")], json!({}));
    let (modest, before) = lab.run(&modest).await?;
    let containers = [writes("greedy", "8Mi"), writes("calm", "64Mi")];
    let greedy = lab.give(&pod("disk-layer", &containers, json!({}))).await?;
    let message = evicted(&greedy).await?;
    ensure!(
        message.contains("Container greedy exceeded its local ephemeral storage limit \"8Mi\""),
        "evicted for: {message}"
    );
    let after = modest.runs().await?;
    ensure!(same(&before, &after), "the other pod was restarted");
    greedy.remove().await?;
    modest.remove().await
}

/// A volume of the pod's own that grows over its limit does the same.
pub(crate) async fn a_volume_that_grows_is_evicted(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = container(
        "main",
        &format!("dd if=/dev/zero of=/data/file bs=1M count=16; {IDLE}"),
        json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}),
    );
    let mut data = scratch("data");
    data["emptyDir"]["sizeLimit"] = "8Mi".into();
    let given = lab
        .give(&pod("disk-volume", &[main], json!({"volumes": [data]})))
        .await?;
    evicted(&given).await?;
    lab.midway().await?;
    let message = evicted(&given).await?;
    ensure!(
        message.contains("Usage of EmptyDir volume \"data\" exceeds the limit \"8Mi\""),
        "evicted for: {message}"
    );
    given.remove().await
}

/// The container `main` is the same instance in both.
fn same(before: &Pod, after: &Pod) -> bool {
    let of = |pod: &Pod| pod.container("main").map(|one| one.id().to_owned());
    of(before).is_some() && of(before) == of(after)
}

/// When the disk is nearly full the kubelet removes images: all that nobody uses, but none that
/// runs, is mounted or pinned; then there is room again, and no pod has to go. Changes the kubelet,
/// so nothing else may run.
pub(crate) async fn unused_images_make_room(lab: Arc<Lab>) -> anyhow::Result<()> {
    let runs = idle("main", json!({"image": RUNS}));
    let mounts = idle(
        "main",
        json!({"volumeMounts": [{"name": "image", "mountPath": "/image"}]}),
    );
    let spec = json!({"volumes": [{"name": "image", "image": {"reference": MOUNTED}}]});
    let runs = lab.give(&pod("images-run", &[runs], json!({}))).await?;
    let mounts = lab.give(&pod("images-mount", &[mounts], spec)).await?;
    let (ran, mounted) = (runs.runs().await?, mounts.runs().await?);
    lab.pull(PINNED).await?;
    lab.pull(UNUSED).await?;
    lab.midway().await?;
    let before = lab.image_bytes().await?;
    let registry = Registry::serve_inflating(usize::try_from(LARGE)?)?;
    let large = format!("{}/good:latest", registry.host());
    lab.pull(&large).await?;
    near(lab.image_bytes().await?, before + LARGE, "with the image")?;

    // some room for what pods and the kubelet's own log write meanwhile, and less than the ballast takes
    let least = available()? - LARGE / 2;
    reconfigure(&json!({
        "imageMinimumGCAge": format!("{}s", LEAST_AGE.as_secs()),
        "evictionHard": {"nodefs.available": least.to_string()},
        "evictionPressureTransitionPeriod": "1s",
    }))?;
    lab.restart_kubelet().await?;
    runs.runs().await?;
    listed().await?;
    let ballast = "/var/tmp/ballast";
    fallocate(ballast, LARGE * 3 / 4)?;

    let deadline = Instant::now() + LIMIT;
    while lab.images().await?.contains(&large) {
        ensure!(Instant::now() < deadline, "the image is still there");
        tokio::time::sleep(LOOK).await;
    }
    until_calm().await?;
    let left = lab.images().await?;
    for (image, stays) in [
        (RUNS, true),
        (MOUNTED, true),
        (PINNED, true),
        (UNUSED, false),
    ] {
        let is = left.iter().any(|one| one == image);
        ensure!(
            is == stays,
            "{image} is there: {is}; all that are: {left:?}"
        );
    }
    let rest = lab.image_bytes().await?;
    // images of scenarios before this one went, too
    ensure!(
        rest < before + LARGE / 2,
        "without the image all images take {rest} bytes, before it {before}"
    );
    ensure!(available()? > least, "there is no more room than before");
    for (given, before) in [(&runs, &ran), (&mounts, &mounted)] {
        let after = given.runs().await?;
        ensure!(same(before, &after), "{} was restarted", given.name);
    }
    fs::remove_file(ballast).with_context(|| format!("remove {ballast}"))?;
    runs.remove().await?;
    mounts.remove().await
}

/// A number of bytes of images, of which small ones come and go.
fn near(is: u64, wanted: u64, what: &str) -> anyhow::Result<()> {
    ensure!(
        is.abs_diff(wanted) < 16 * MIB,
        "{what} all images take {is} bytes, not about {wanted}"
    );
    Ok(())
}

/// Waits until a kubelet that has just started has seen the images, and for twice the age at which
/// it may remove one: it counts from when it sees it first, and a disk that is full by then leaves
/// it nothing but to evict pods.
async fn listed() -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    // two loops list them at the start: the one of the images' ages and that of the node's status
    while lists().await.unwrap_or_default() < 2.0 {
        ensure!(
            Instant::now() < deadline,
            "the kubelet does not list images"
        );
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(LEAST_AGE * 2).await;
    Ok(())
}

/// How often the kubelet has listed images since its start.
async fn lists() -> anyhow::Result<f64> {
    let text = http::get(READ_ONLY_PORT, "/metrics").await?;
    let lists = "kubelet_runtime_operations_total{operation_type=\"list_images\"}";
    Ok(load::sum(&text, lists))
}

/// Waits until the kubelet says that there is room on the disk.
async fn until_calm() -> anyhow::Result<()> {
    let pressure = "jsonpath={.status.conditions[?(@.type==\"DiskPressure\")].status}";
    let ask = ["get", "node", "node", "-o", pressure];
    kubectl_until(&ask, |is| is == "False").await.map(drop)
}

/// Bytes that are left on the disk.
fn available() -> anyhow::Result<u64> {
    let is = rustix::fs::statvfs(DISK).with_context(|| format!("statvfs {DISK}"))?;
    Ok(is.f_bavail * is.f_frsize)
}

/// A file that takes so many bytes of the disk.
fn fallocate(path: &str, bytes: u64) -> anyhow::Result<()> {
    let file = fs::File::create(path).with_context(|| format!("create {path}"))?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)
        .with_context(|| format!("{path}: take {bytes} bytes"))
}
