//! Records that cannot be read, and shims that die.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use skiff_cri::v1::{ContainerState, PodSandboxState};
use skiff_integration::process;
use tonic::Code;

use crate::node::{Node, Running};

const STATE: &str = "/var/lib/skiff/state";

/// Marks the containers of these tests in the process list.
const SLEEP: &str = "98763";

/// Overwrites a record between two lives of the daemon.
async fn corrupted(node: &mut Node, record: &Path) -> anyhow::Result<()> {
    node.daemon.terminate()?;
    let outcome = std::fs::write(record, b"{\"version\": 1, \"torn")
        .with_context(|| format!("write {record:?}"));
    let (cri, took) = node.daemon.restart().await?;
    node.cri = cri;
    outcome?;
    ensure!(took < Duration::from_secs(2), "the start took {took:?}");
    Ok(())
}

fn quarantined() -> usize {
    std::fs::read_dir(Path::new(STATE).join("quarantine")).map_or(0, Iterator::count)
}

/// The record is set aside, what it named is taken apart, and the other pods are back.
pub(crate) async fn a_corrupt_pod_record(node: &mut Node) -> anyhow::Result<()> {
    let (broken, sound) = (
        node.launch("corrupt-pod", &format!("exec sleep {SLEEP}"))
            .await?,
        node.launch("sound", "sleep 3600").await?,
    );
    let before = quarantined();
    corrupted(
        node,
        &PathBuf::from(format!("{STATE}/pods/{}.json", broken.pod_id)),
    )
    .await?;
    let still = node
        .pod_state(&sound.pod_id)
        .await
        .context("PodSandboxStatus of the other pod")?;
    ensure!(
        still == PodSandboxState::SandboxReady,
        "the other pod is {still:?}"
    );
    ensure!(quarantined() > before, "nothing new in {STATE}/quarantine");
    gone(&broken).await?;
    ensure!(
        node.cri
            .exec(&sound.id, &["true"], 10)
            .await
            .context("ExecSync")?
            .exit_code
            == 0,
        "true failed"
    );
    node.cri
        .discard_pod(&broken.pod_id)
        .await
        .context("remove the broken pod")?;
    node.cri
        .discard_pod(&sound.pod_id)
        .await
        .context("remove the other pod")?;
    node.healthy("corrupt-pod").await
}

/// Nobody can ask for the pod any more, so its processes and its network have to go.
async fn gone(broken: &Running) -> anyhow::Result<()> {
    let netns = PathBuf::from(format!("/run/netns/skiff-{}", &broken.pod_id[..12]));
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let running = process::with_last_argument(SLEEP).len();
        if running == 0 && !netns.exists() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "{running} processes run on, {netns:?} exists: {}",
                netns.exists()
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The container is gone for the kubelet, its pod is not.
pub(crate) async fn a_corrupt_container_record(node: &mut Node) -> anyhow::Result<()> {
    let running = node
        .launch("corrupt-container", &format!("exec sleep {SLEEP}"))
        .await?;
    corrupted(
        node,
        &PathBuf::from(format!("{STATE}/containers/{}.json", running.id)),
    )
    .await?;
    let pod = node
        .pod_state(&running.pod_id)
        .await
        .context("PodSandboxStatus")?;
    ensure!(pod == PodSandboxState::SandboxReady, "the pod is {pod:?}");
    if let Err(status) = node.cri.status(&running.id).await {
        ensure!(status.code() == Code::NotFound, "ContainerStatus: {status}");
    }
    node.cri
        .discard_pod(&running.pod_id)
        .await
        .context("remove the pod")?;
    let left = process::with_last_argument(SLEEP).len();
    ensure!(left == 0, "{left} processes run on");
    Ok(())
}

/// Its containers have exited with a reason, its pod is not ready, and no other pod is touched.
pub(crate) async fn a_killed_shim(node: &mut Node) -> anyhow::Result<()> {
    let (lost, sound) = (
        node.launch("lost", &format!("exec sleep {SLEEP}")).await?,
        node.launch("sound-shim", "sleep 3600").await?,
    );
    let child = process::with_last_argument(SLEEP)
        .first()
        .copied()
        .context("no process of the pod")?;
    let shim = process::parent(child).context("no parent of the pod's process")?;
    let command = process::command_line(shim);
    ensure!(
        command.contains("skiff-shim"),
        "the parent is no shim: {command}"
    );
    process::kill(shim).with_context(|| format!("kill {shim}"))?;
    let status = node.ended(&lost.id).await?;
    ensure!(
        !status.reason.is_empty() && status.reason != "Completed",
        "reason {:?}",
        status.reason
    );
    let pod = node
        .pod_state(&lost.pod_id)
        .await
        .context("PodSandboxStatus")?;
    ensure!(
        pod == PodSandboxState::SandboxNotready,
        "the pod is {pod:?}"
    );
    ensure!(
        process::with_last_argument(SLEEP).is_empty(),
        "the container's process runs on"
    );
    let other = node
        .cri
        .status(&sound.id)
        .await
        .context("ContainerStatus of the other pod")?;
    ensure!(
        other.state() == ContainerState::ContainerRunning,
        "the other container is {:?}",
        other.state()
    );
    ensure!(
        node.cri
            .exec(&sound.id, &["true"], 10)
            .await
            .context("ExecSync")?
            .exit_code
            == 0,
        "true failed"
    );
    node.cri
        .discard_pod(&lost.pod_id)
        .await
        .context("remove the lost pod")?;
    node.cri
        .discard_pod(&sound.pod_id)
        .await
        .context("remove the other pod")?;
    node.healthy("lost").await
}
