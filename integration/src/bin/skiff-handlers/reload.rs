//! A configuration that is read again while pods run.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use skiff_cri::v1::{ContainerState, RuntimeHandler, StatusRequest};
use skiff_integration::client;
use tonic::Code;

use crate::node::{HANDLERS, Node};

impl Node {
    fn drop_in(&self, name: &str) -> std::path::PathBuf {
        self.options.drop_ins.join(name)
    }

    /// SIGHUP; returns what the log says of it from then on.
    pub(crate) async fn reload(&mut self) -> anyhow::Result<String> {
        let before = fs::read_to_string(&self.options.log)?.len();
        let pid = Pid::from_raw(self.daemon.pid().cast_signed()).context("no pid")?;
        kill_process(pid, Signal::HUP)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let log = fs::read_to_string(&self.options.log)?.split_off(before);
            if log.contains("read again") {
                return Ok(log);
            }
            ensure!(
                Instant::now() < deadline,
                "the log says nothing of a reload: {log}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn handlers(&mut self) -> anyhow::Result<Vec<RuntimeHandler>> {
        let status = self.cri.runtime.status(StatusRequest::default()).await?;
        Ok(status.into_inner().runtime_handlers)
    }
}

fn names(handlers: &[RuntimeHandler]) -> Vec<&str> {
    handlers
        .iter()
        .map(|handler| handler.name.as_str())
        .collect()
}

pub(crate) async fn status_tells_features(node: &mut Node) -> anyhow::Result<()> {
    let handlers = node.handlers().await?;
    ensure!(
        names(&handlers) == ["", "skiff", "crun", "runc"],
        "{:?}",
        names(&handlers)
    );
    for handler in handlers {
        let features = handler.features.context("no features")?;
        ensure!(
            features.recursive_read_only_mounts,
            "{}: {features:?}",
            handler.name
        );
        ensure!(features.user_namespaces, "{}: {features:?}", handler.name);
    }
    Ok(())
}

/// A handler that is gone makes no more pods and containers; those it made go on and can be
/// removed. When it comes back it makes containers for them again.
pub(crate) async fn handlers_come_and_go(node: &mut Node) -> anyhow::Result<()> {
    node.cri.handler = HANDLERS[0].to_owned();
    let kept = node.launch("kept", "sleep 3600").await?;
    let other = node
        .launch("other", "trap 'exit 6' TERM; while :; do sleep 0.05; done")
        .await?;
    let (file, aside) = (
        node.drop_in("handlers.toml"),
        node.drop_in("handlers.aside"),
    );
    fs::rename(&file, &aside)?;
    let outcome = gone(node, &kept, &other).await;
    fs::rename(&aside, &file)?;
    let log = node.reload().await?;
    ensure!(log.contains("runtime.handlers.runc"), "{log}");
    outcome?;
    let peer = client::container("peer", &["sleep", "3600"], &kept.pod);
    let id = node
        .cri
        .create(&kept.pod_id, &peer, &kept.pod)
        .await
        .context("after its return")?;
    node.cri.start(&id).await?;
    node.discard(&kept).await?;
    node.cri.handler.clear();
    Ok(())
}

async fn gone(
    node: &mut Node,
    kept: &crate::node::Running,
    other: &crate::node::Running,
) -> anyhow::Result<()> {
    node.reload().await?;
    ensure!(
        names(&node.handlers().await?) == ["", "skiff"],
        "handlers are still told"
    );
    let refusal = node
        .cri
        .run_pod(&client::pod("late"))
        .await
        .err()
        .context("a pod was made")?;
    ensure!(refusal.code() == Code::InvalidArgument, "{refusal}");
    for word in ["runtime_handler", "\"runc\"", "\"\", \"skiff\""] {
        ensure!(refusal.message().contains(word), "{word}: {refusal}");
    }
    let peer = client::container("peer", &["true"], &kept.pod);
    let refusal = node.cri.create(&kept.pod_id, &peer, &kept.pod).await;
    let refusal = refusal.err().context("a container was made")?;
    ensure!(
        refusal.message().contains("not configured any more"),
        "{refusal}"
    );
    node.says(&kept.id, "true").await.context("exec")?;
    // Also for a daemon that has never known it.
    node.crash().await?;
    let status = node.cri.status(&kept.id).await?;
    ensure!(
        status.state() == ContainerState::ContainerRunning,
        "{:?}",
        status.state()
    );
    node.says(&kept.id, "true")
        .await
        .context("exec after a restart")?;
    node.cri
        .stop(&other.id, 20)
        .await
        .context("StopContainer")?;
    let code = node.cri.status(&other.id).await?.exit_code;
    ensure!(code == 6, "exit code {code}");
    node.discard(other).await
}

pub(crate) async fn a_broken_file_changes_nothing(node: &mut Node) -> anyhow::Result<()> {
    let file = node.drop_in("broken.toml");
    fs::write(
        &file,
        "[log]\nlevel = 'debug'\n[runtime.handlers.new]\npath = 'relative'\n",
    )?;
    let log = node.reload().await;
    fs::remove_file(&file)?;
    let log = log?;
    for word in [
        "broken.toml:4",
        "runtime.handlers.new.path",
        "stays as it was",
    ] {
        ensure!(log.contains(word), "{word} is not in the log: {log}");
    }
    ensure!(
        !names(&node.handlers().await?).contains(&"new"),
        "the handler is told"
    );
    node.cri.run_pod(&client::pod("sound")).await?;
    node.reload().await?;
    let list = node
        .cri
        .runtime
        .list_pod_sandbox(skiff_cri::v1::ListPodSandboxRequest::default())
        .await?
        .into_inner();
    for pod in list.items()? {
        node.cri.discard_pod(&pod.id).await?;
    }
    Ok(())
}

pub(crate) async fn what_takes_a_restart_is_said(node: &mut Node) -> anyhow::Result<()> {
    let file = node.drop_in("restart.toml");
    fs::write(
        &file,
        "root = '/var/lib/elsewhere'\n[log]\nlevel = 'debug'\n",
    )?;
    let log = node.reload().await;
    let running = node.launch("restart", "sleep 3600").await;
    fs::remove_file(&file)?;
    let log = log?;
    for word in ["restart.toml:1", "root", "restarted", "log.level"] {
        ensure!(log.contains(word), "{word} is not in the log: {log}");
    }
    ensure!(!fs::exists("/var/lib/elsewhere")?, "it was taken up");
    node.discard(&running?).await?;
    node.reload().await?;
    Ok(())
}

pub(crate) async fn a_handler_with_other_defaults(node: &mut Node) -> anyhow::Result<()> {
    let file = node.drop_in("strict.toml");
    fs::write(
        &file,
        "[runtime.handlers.strict]\nprivileged = false\n\
         [runtime.handlers.strict.container]\ndefault_capabilities = []\nshm_size = '1MiB'\n",
    )?;
    let log = node.reload().await?;
    ensure!(log.contains("runtime.handlers.strict"), "{log}");
    node.cri.handler = "strict".into();
    let running = node.launch("strict", "sleep 3600").await?;
    let found = node
        .says(&running.id, "sed -n 's/^CapBnd:\\t//p' /proc/1/status")
        .await?;
    ensure!(found == "0000000000000000", "capabilities {found}");
    let found = node
        .says(
            &running.id,
            "df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d' ' -f2",
        )
        .await?;
    ensure!(found == "1024", "/dev/shm has {found} KiB");
    node.discard(&running).await?;
    let mut pod = client::pod("privileged");
    let linux = pod.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().privileged = true;
    let refusal = node
        .cri
        .run_pod(&pod)
        .await
        .err()
        .context("a privileged pod was made")?;
    ensure!(
        refusal.message().contains("privileged = false"),
        "{refusal}"
    );
    node.cri.handler.clear();
    fs::remove_file(&file)?;
    node.reload().await?;
    Ok(())
}
