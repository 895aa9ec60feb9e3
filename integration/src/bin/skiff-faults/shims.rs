//! Shims that do not answer, pods that break, and another skiffd on the same node.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use skiff_cri::v1::{ContainerState, NamespaceMode, NamespaceOption, PodSandboxState};
use skiff_integration::client;
use skiff_integration::daemon::Daemon;
use skiff_integration::process;
use tonic::Code;

use crate::node::{Node, refused_with};

/// Marks the containers of these tests in the process list.
const SLEEP: &str = "98762";

/// The one process of these tests' container.
fn sleeper() -> anyhow::Result<u32> {
    let pids = process::with_last_argument(SLEEP);
    pids.first().copied().context("no process of the container")
}

fn send(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("no pid")?;
    kill_process(pid, signal).with_context(|| format!("send {signal:?} to {pid:?}"))
}

/// A shim that lives and is silent while a daemon starts: its container runs on and is told to,
/// what needs the shim is refused, and all is well when it answers again.
pub(crate) async fn a_stopped_shim(node: &mut Node) -> anyhow::Result<()> {
    let running = node
        .launch("stopped-shim", &format!("exec sleep {SLEEP}"))
        .await?;
    let process = sleeper()?;
    let shim = process::parent(process).context("no parent of the container's process")?;
    let command = process::command_line(shim);
    ensure!(
        command.contains("skiff-shim"),
        "the parent {shim} of {process} is no shim: {command}"
    );
    node.daemon.crash()?;
    // Not before: the kernel continues the stopped when their process group becomes orphaned.
    send(shim, Signal::STOP)?;
    let (cri, _) = node.daemon.restart().await?;
    node.cri = cri;
    let outcome = while_stopped(node, &running.pod_id, &running.id).await;
    send(shim, Signal::CONT)?;
    outcome?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(status) = node.cri.exec(&running.id, &["true"], 10).await {
        ensure!(Instant::now() < deadline, "the shim is not found: {status}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(sleeper()? == process, "the container's process is another");
    node.cri
        .discard_pod(&running.pod_id)
        .await
        .context("remove the pod")?;
    node.healthy("stopped-shim").await
}

async fn while_stopped(node: &mut Node, pod: &str, id: &str) -> anyhow::Result<()> {
    let status = node.cri.status(id).await.context("ContainerStatus")?;
    ensure!(
        status.state() == ContainerState::ContainerRunning,
        "the container is {:?}",
        status.state()
    );
    let state = node.pod_state(pod).await.context("PodSandboxStatus")?;
    ensure!(
        state == PodSandboxState::SandboxReady,
        "the pod is {state:?}"
    );
    match node.cri.exec(id, &["true"], 10).await {
        Err(status) if status.message().contains("does not answer") => {
            ensure!(
                status.code() == Code::Unavailable,
                "code {:?}",
                status.code()
            );
        }
        other => bail!("ExecSync: {other:?}"),
    }
    Ok(())
}

/// With the init of a shared PID namespace all its containers end, and no other can be made.
pub(crate) async fn a_killed_pod_init(node: &mut Node) -> anyhow::Result<()> {
    let mut pod = client::pod("pod-init");
    let security = pod
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default();
    security.namespace_options = Some(NamespaceOption {
        pid: NamespaceMode::Pod.into(),
        ..NamespaceOption::default()
    });
    let pod_id = node.cri.run_pod(&pod).await.context("RunPodSandbox")?;
    let mut container = client::container("main", &["sleep", SLEEP], &pod);
    container
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default()
        .namespace_options = Some(NamespaceOption {
        pid: NamespaceMode::Pod.into(),
        ..NamespaceOption::default()
    });
    let id = node
        .cri
        .create(&pod_id, &container, &pod)
        .await
        .context("CreateContainer")?;
    node.cri.start(&id).await.context("StartContainer")?;
    let cgroup = cgroup_of(&pod_id).context("no cgroup of the pod's init")?;
    let procs = std::fs::read_to_string(cgroup.join("cgroup.procs"))?;
    let init: u32 = procs.trim().parse().context("no init")?;
    send(init, Signal::KILL)?;
    let status = node.ended(&id).await?;
    ensure!(status.exit_code == 137, "exit code {}", status.exit_code);
    let state = node.pod_state(&pod_id).await.context("PodSandboxStatus")?;
    ensure!(
        state == PodSandboxState::SandboxNotready,
        "the pod is {state:?}"
    );
    let another = client::container("another", &["true"], &pod);
    refused_with(
        "CreateContainer",
        node.cri.create(&pod_id, &another, &pod).await,
        Code::FailedPrecondition,
        &["PID namespace"],
    )?;
    node.cri
        .discard_pod(&pod_id)
        .await
        .context("remove the pod")?;
    node.healthy("pod-init").await
}

/// The cgroup that carries an id, wherever it is.
fn cgroup_of(id: &str) -> Option<PathBuf> {
    let wanted = format!("skiff-{id}");
    let mut dirs = vec![Path::new("/sys/fs/cgroup").to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).ok()?.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_str() == Some(&wanted) {
                return Some(entry.path());
            }
            dirs.push(entry.path());
        }
    }
    None
}

/// A daemon with other directories finds cgroups and network namespaces that are not its own.
pub(crate) async fn another_daemon(node: &mut Node) -> anyhow::Result<()> {
    let running = node
        .launch("another-daemon", &format!("exec sleep {SLEEP}"))
        .await?;
    let process = sleeper()?;
    let endpoint = "unix:///run/skiff2/skiff.sock";
    let arguments = [
        "--root",
        "/var/lib/skiff2",
        "--state",
        "/run/skiff2",
        "--listen",
        endpoint,
    ];
    std::fs::create_dir_all("/run/skiff2")?;
    let log = &node.options.daemon.log;
    let (mut second, _) =
        Daemon::start(&node.options.daemon.skiffd, &arguments, log, endpoint).await?;
    // Its sweep goes on after its first answer.
    tokio::time::sleep(Duration::from_secs(2)).await;
    second.terminate()?;
    ensure!(sleeper()? == process, "the container's process is another");
    let netns = format!("/run/netns/skiff-{}", &running.pod_id[..12]);
    ensure!(Path::new(&netns).exists(), "{netns} is gone");
    let answer = node.cri.exec(&running.id, &["true"], 10).await;
    ensure!(answer.context("ExecSync")?.exit_code == 0, "true failed");
    node.cri
        .discard_pod(&running.pod_id)
        .await
        .context("remove the pod")?;
    node.healthy("another-daemon").await
}
