//! The lives of containers that another runtime makes.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use skiff_cri::v1::{ContainerState, ListPodSandboxRequest, PodSandboxStatusRequest};
use skiff_integration::{client, process};

use crate::node::{Node, process_with};

pub(crate) async fn log_exit_code_and_names(node: &mut Node) -> anyhow::Result<()> {
    let handler = node.cri.handler.clone();
    let running = node
        .launch("life", "echo out; echo err >&2; exit 3")
        .await?;
    let status = node.ended(&running.id).await?;
    ensure!(status.exit_code == 3, "exit code {}", status.exit_code);
    ensure!(
        status.finished_at >= status.started_at && status.started_at > 0,
        "{status:?}"
    );
    node.logged(&running, &["stderr F err", "stdout F out"])
        .await?;
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: running.pod_id.clone(),
        verbose: false,
    };
    let answer = node
        .cri
        .runtime
        .pod_sandbox_status(request)
        .await?
        .into_inner();
    let told = answer.status.context("no status")?.runtime_handler;
    ensure!(told == handler, "PodSandboxStatus: handler {told:?}");
    let list = node
        .cri
        .runtime
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await?;
    let listed = list
        .into_inner()
        .items()?
        .into_iter()
        .find(|pod| pod.id == running.pod_id);
    let told = listed.context("not listed")?.runtime_handler;
    ensure!(told == handler, "ListPodSandbox: handler {told:?}");
    node.cri
        .remove(&running.id)
        .await
        .context("RemoveContainer")?;
    node.discard(&running).await
}

pub(crate) async fn exec_and_its_exit_codes(node: &mut Node) -> anyhow::Result<()> {
    let running = node.launch("exec", "sleep 3600").await?;
    let script = "echo out; echo err >&2; exit 7";
    let answer = node
        .cri
        .exec(&running.id, &["sh", "-c", script], 20)
        .await?;
    let said = (
        answer.exit_code,
        answer.stdout.as_slice(),
        answer.stderr.as_slice(),
    );
    ensure!(said == (7, &b"out\n"[..], &b"err\n"[..]), "{answer:?}");
    for _ in 0..10 {
        let answer = node.cri.exec(&running.id, &["true"], 20).await?;
        ensure!(answer.exit_code == 0, "true: {answer:?}");
    }
    let began = Instant::now();
    let late = node.cri.exec(&running.id, &["sleep", "600"], 1).await;
    ensure!(late.is_err(), "an exec outlived its timeout");
    ensure!(
        began.elapsed() < Duration::from_secs(20),
        "the timeout took {:?}",
        began.elapsed()
    );
    let missing = node.cri.exec(&running.id, &["nothing-like-it"], 20).await;
    match missing {
        Ok(answer) => ensure!(answer.exit_code >= 126, "{answer:?}"),
        Err(status) => ensure!(status.message().contains("nothing-like-it"), "{status}"),
    }
    // In a kernel of its own the process has no pid that could be killed.
    if node.options.sandboxed.is_none() {
        let left = node
            .says(&running.id, "ps | grep -c '[s]leep 600' || true")
            .await?;
        ensure!(left == "0", "{left} processes of an exec are left");
    }
    node.discard(&running).await
}

pub(crate) async fn stop_with_grace(node: &mut Node) -> anyhow::Result<()> {
    let heeds = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let running = node.launch("heeds", heeds).await?;
    node.logged(&running, &["stdout F up"]).await?;
    node.cri
        .stop(&running.id, 20)
        .await
        .context("StopContainer")?;
    let status = node.cri.status(&running.id).await?;
    ensure!(status.exit_code == 0, "exit code {}", status.exit_code);
    node.logged(&running, &["stdout F bye", "stdout F up"])
        .await?;
    node.discard(&running).await?;
    let running = node
        .launch(
            "ignores",
            "trap '' TERM; echo up; while :; do sleep 1; done",
        )
        .await?;
    node.logged(&running, &["stdout F up"]).await?;
    let began = Instant::now();
    node.cri
        .stop(&running.id, 1)
        .await
        .context("StopContainer")?;
    ensure!(
        began.elapsed() >= Duration::from_secs(1),
        "no grace: {:?}",
        began.elapsed()
    );
    let status = node.cri.status(&running.id).await?;
    ensure!(status.exit_code == 137, "exit code {}", status.exit_code);
    node.discard(&running).await
}

pub(crate) async fn a_command_that_is_not_there(node: &mut Node) -> anyhow::Result<()> {
    let pod = client::pod(&format!("absent-{}", node.cri.handler));
    let pod_id = node.cri.run_pod(&pod).await?;
    let container = client::container("main", &["/nothing-like-it"], &pod);
    // runc looks for the command when it makes the container, crun when it starts it.
    let refusal = match node.cri.create(&pod_id, &container, &pod).await {
        Err(refusal) => refusal,
        Ok(id) => match node.cri.start(&id).await {
            Err(refusal) => refusal,
            Ok(()) => anyhow::bail!("it was started"),
        },
    };
    ensure!(refusal.message().contains("nothing-like-it"), "{refusal}");
    node.cri.discard_pod(&pod_id).await?;
    Ok(())
}

pub(crate) async fn a_crash_of_the_daemon_between_all_steps(node: &mut Node) -> anyhow::Result<()> {
    let pod = client::pod(&format!("crash-{}", node.cri.handler));
    let pod_id = node.cri.run_pod(&pod).await?;
    node.crash().await?;
    let script = "trap 'exit 5' TERM; while :; do sleep 0.05; done";
    let container = client::container("main", &["sh", "-c", script], &pod);
    let id = node
        .cri
        .create(&pod_id, &container, &pod)
        .await
        .context("after a crash")?;
    node.crash().await?;
    node.cri
        .start(&id)
        .await
        .context("StartContainer after a crash")?;
    let first = node.says(&id, "cat /proc/1/stat | cut -d' ' -f22").await?;
    node.crash().await?;
    let status = node.cri.status(&id).await?;
    ensure!(
        status.state() == ContainerState::ContainerRunning,
        "{:?}",
        status.state()
    );
    let then = node.says(&id, "cat /proc/1/stat | cut -d' ' -f22").await?;
    ensure!(first == then, "the container is another one");
    node.cri.stop(&id, 20).await?;
    node.crash().await?;
    let status = node.cri.status(&id).await?;
    ensure!(status.exit_code == 5, "exit code {}", status.exit_code);
    let running = crate::node::Running { pod, pod_id, id };
    node.discard(&running).await
}

pub(crate) async fn a_dead_shim(node: &mut Node) -> anyhow::Result<()> {
    let running = node.launch("shim", "exec sleep 3601").await?;
    let child = process_with("3601").await?;
    let shim = process::parent(child).context("no parent")?;
    let line = process::command_line(shim);
    ensure!(line.contains("skiff-shim"), "the parent is no shim: {line}");
    process::kill(shim)?;
    let status = node.ended(&running.id).await?;
    ensure!(status.exit_code == 255, "exit code {}", status.exit_code);
    ensure!(
        process::with_last_argument("3601").is_empty(),
        "the container lives"
    );
    node.discard(&running).await
}
