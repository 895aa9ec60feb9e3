//! The middle of every scenario: all of them wait there, runtime and kubelet are killed and started
//! again under their pods, and nothing of that may be seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use skiff_cri::v1::ContainerState;
use tokio::sync::{Mutex, watch};

use crate::manifest::RESTLESS;
use crate::node::Node;

/// Where scenarios meet.
#[derive(Debug)]
pub(crate) struct Midway {
    /// How many are still to come, or to end.
    missing: watch::Sender<usize>,
    /// What came of the disturbance, once there was one.
    outcome: Mutex<Option<Result<(), String>>>,
}

impl Midway {
    /// A meeting of so many scenarios.
    pub(crate) fn of(scenarios: usize) -> Self {
        Self {
            missing: watch::Sender::new(scenarios),
            outcome: Mutex::new(None),
        }
    }

    /// One has come, or has ended without coming.
    pub(crate) fn arrive(&self) {
        self.missing.send_modify(|missing| *missing -= 1);
    }

    /// Waits for all to come. The first to see that disturbs the node, for all.
    pub(crate) async fn pass(&self, node: &Arc<Node>) -> anyhow::Result<()> {
        let mut missing = self.missing.subscribe();
        missing.wait_for(|missing| *missing == 0).await.map(drop)?;
        let mut outcome = self.outcome.lock().await;
        if outcome.is_none() {
            *outcome = Some(disturb(node).await.map_err(|error| format!("{error:#}")));
        }
        let outcome = outcome.clone().unwrap_or(Ok(()));
        outcome
            .map_err(anyhow::Error::msg)
            .context("restarts of runtime and kubelet")
    }
}

/// What may not change while only daemons come and go: the containers that run, and when they
/// started. Those that end by themselves are none of them.
async fn running(node: &Node) -> anyhow::Result<BTreeMap<String, i64>> {
    let mut pods = node.sandboxes().await?;
    pods.retain(|pod| pod.labels.contains_key(RESTLESS));
    let mut running = BTreeMap::new();
    for container in node.containers().await? {
        let restless = pods.iter().any(|pod| pod.id == container.pod_sandbox_id);
        if container.state() == ContainerState::ContainerRunning && !restless {
            let status = node.status(&container.id).await?;
            running.insert(container.id, status.started_at);
        }
    }
    Ok(running)
}

/// Kills and restarts both, each alone and both at once.
async fn disturb(node: &Arc<Node>) -> anyhow::Result<()> {
    let before = running(node).await?;
    let settled = Duration::from_secs(3);
    node.crash_daemon().await.context("kill -9 of the daemon")?;
    tokio::time::sleep(settled).await;
    node.kubelet
        .lock()
        .await
        .restart(Signal::TERM)
        .await
        .context("restart of the kubelet")?;
    tokio::time::sleep(settled).await;
    node.stop_daemon().await.context("stop of the daemon")?;
    node.kubelet.lock().await.kill()?;
    node.start_daemon().await.context("start of the daemon")?;
    node.kubelet
        .lock()
        .await
        .restart(Signal::KILL)
        .await
        .context("start of the kubelet")?;
    tokio::time::sleep(settled).await;
    let after = running(node).await?;
    for (id, started) in &before {
        ensure!(
            after.get(id) == Some(started),
            "container {id} no longer runs"
        );
    }
    Ok(())
}
