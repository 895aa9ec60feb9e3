//! Containers that cannot start, do not stop, or cannot be logged.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use skiff_cri::v1::ContainerConfig;
use skiff_integration::client;
use skiff_integration::{mount, process};
use tonic::Code;

use crate::node::{Node, refused_with, says};

/// Starts a container that cannot run its command: it ends with that exit code and a message that
/// has all of the words in it.
async fn cannot_start(
    node: &mut Node,
    name: &str,
    change: impl FnOnce(&mut ContainerConfig),
    code: i32,
    words: &[&str],
) -> anyhow::Result<()> {
    let pod = client::pod(name);
    let pod_id = node.cri.run_pod(&pod).await.context("RunPodSandbox")?;
    let mut container = client::container("main", &["sleep", "1"], &pod);
    change(&mut container);
    let outcome = async {
        let id = node
            .cri
            .create(&pod_id, &container, &pod)
            .await
            .context("CreateContainer")?;
        if let Err(status) = node.cri.start(&id).await {
            says("StartContainer", status.message(), words)?;
        }
        let status = node.ended(&id).await?;
        ensure!(
            status.exit_code == code,
            "exit code {}, not {code}: {}",
            status.exit_code,
            status.message
        );
        says("ContainerStatus", &status.message, words)?;
        ensure!(
            status.reason != "Completed" && !status.reason.is_empty(),
            "reason {:?}",
            status.reason
        );
        ensure!(
            status.started_at > 0 && status.finished_at > 0,
            "a time is missing"
        );
        anyhow::Ok(())
    }
    .await;
    node.cri
        .discard_pod(&pod_id)
        .await
        .context("remove the pod")?;
    outcome
}

pub(crate) async fn a_command_that_does_not_exist(node: &mut Node) -> anyhow::Result<()> {
    let change =
        |container: &mut ContainerConfig| container.command = vec!["/no/such/program".to_owned()];
    cannot_start(node, "no-command", change, 127, &["/no/such/program"]).await
}

pub(crate) async fn a_command_that_is_not_executable(node: &mut Node) -> anyhow::Result<()> {
    let change =
        |container: &mut ContainerConfig| container.command = vec!["/etc/passwd".to_owned()];
    cannot_start(node, "not-executable", change, 126, &["/etc/passwd"]).await
}

/// Refused by CreateContainer or StartContainer, with the path.
pub(crate) async fn a_working_directory_that_is_a_file(node: &mut Node) -> anyhow::Result<()> {
    let pod = client::pod("file-cwd");
    let pod_id = node.cri.run_pod(&pod).await.context("RunPodSandbox")?;
    let mut container = client::container("main", &["true"], &pod);
    container.working_dir = "/etc/passwd".to_owned();
    let told = match node.cri.create(&pod_id, &container, &pod).await {
        Err(status) => status.message().to_owned(),
        Ok(id) => match node.cri.start(&id).await {
            Err(status) => status.message().to_owned(),
            Ok(()) => node.ended(&id).await?.message,
        },
    };
    node.cri
        .discard_pod(&pod_id)
        .await
        .context("remove the pod")?;
    says("the error", &told, &["/etc/passwd"])
}

/// A container that forks a thousand children is ended with all of them.
pub(crate) async fn a_thousand_children(node: &mut Node) -> anyhow::Result<()> {
    let script = "i=0; while [ $i -lt 1000 ]; do sleep 98765 & i=$((i+1)); done; echo forked; wait";
    let running = node.launch("children", script).await?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while sleepers() < 1000 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let forked = sleepers();
    ensure!(forked == 1000, "{forked} children after a minute");
    node.cri
        .stop(&running.id, 0)
        .await
        .context("StopContainer")?;
    let status = node.ended(&running.id).await?;
    ensure!(status.exit_code == 137, "exit code {}", status.exit_code);
    node.cri
        .discard_pod(&running.pod_id)
        .await
        .context("remove the pod")?;
    let left = sleepers();
    ensure!(left == 0, "{left} children are left");
    Ok(())
}

fn sleepers() -> usize {
    process::with_last_argument("98765").len()
}

/// It gets its grace, then SIGKILL; a second, shorter stop cuts the grace.
pub(crate) async fn a_container_that_ignores_sigterm(node: &mut Node) -> anyhow::Result<()> {
    let script = "trap '' TERM; while :; do sleep 0.1; done";
    let running = node.launch("stubborn", script).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    node.cri
        .stop(&running.id, 2)
        .await
        .context("StopContainer")?;
    let took = began.elapsed();
    ensure!(
        took >= Duration::from_secs(2),
        "stopped after {took:?}, before its grace of 2 s was over"
    );
    ensure!(
        took < Duration::from_secs(10),
        "stopped only after {took:?}"
    );
    let code = node.ended(&running.id).await?.exit_code;
    ensure!(code == 137, "exit code {code}");
    node.cri
        .discard_pod(&running.pod_id)
        .await
        .context("remove the pod")?;

    let running = node.launch("stubborn-again", script).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut first, mut second) = (node.cri.clone(), node.cri.clone());
    let began = Instant::now();
    let (long, short) = tokio::join!(first.stop(&running.id, 600), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        second.stop(&running.id, 1).await
    });
    short.context("the second StopContainer")?;
    long.context("the first StopContainer")?;
    let took = began.elapsed();
    ensure!(
        took < Duration::from_secs(20),
        "the second stop did not shorten the first: {took:?}"
    );
    node.cri
        .discard_pod(&running.pod_id)
        .await
        .context("remove the pod")
}

/// DeadlineExceeded, and the whole tree of the command is gone.
pub(crate) async fn an_exec_that_outlives_its_timeout(node: &mut Node) -> anyhow::Result<()> {
    let running = node.launch("exec-timeout", "sleep 3600").await?;
    let command = ["sh", "-c", "sleep 98765 & sleep 98765"];
    let answer = node.cri.exec(&running.id, &command, 1).await;
    refused_with("ExecSync", answer, Code::DeadlineExceeded, &[])?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while sleepers() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = sleepers();
    let again = node.cri.exec(&running.id, &["true"], 10).await;
    node.cri
        .discard_pod(&running.pod_id)
        .await
        .context("remove the pod")?;
    ensure!(left == 0, "{left} processes of the command are left");
    ensure!(
        again.context("ExecSync after the timeout")?.exit_code == 0,
        "true failed"
    );
    Ok(())
}

/// The container goes on and ends as it would have; the daemon and its pods do not notice.
pub(crate) async fn a_full_log_disk(node: &mut Node) -> anyhow::Result<()> {
    let path = Path::new("/var/log/pods/full-log");
    std::fs::create_dir_all(path)?;
    mount::tmpfs(path, "256k")?;
    let outcome = async {
        let script = "head -c 4000000 /dev/zero | tr '\\0' x | fold -w 1000; exit 3";
        let running = node.launch("full-log", script).await?;
        let status = node.ended(&running.id).await?;
        ensure!(status.exit_code == 3, "exit code {}", status.exit_code);
        node.cri
            .discard_pod(&running.pod_id)
            .await
            .context("remove the pod")?;
        node.healthy("after-full-log").await
    }
    .await;
    mount::unmount(path)?;
    outcome
}
