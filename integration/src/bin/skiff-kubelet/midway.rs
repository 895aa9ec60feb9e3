//! The middle of every scenario: all of them wait there, runtime and kubelet are killed and started
//! again under their pods, and nothing of that may be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use skiff_cri::v1::ContainerState;
use tokio::sync::{Mutex, watch};

use crate::http;
use crate::kubelet::READ_ONLY_PORT;
use crate::lab::LIMIT;
use crate::manifest::RESTLESS;
use crate::node::{LOOK, Node};

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

/// A container that runs: in which pod, and since when.
type Since = (String, i64);

/// What may not change while only daemons come and go: the containers that run, and when they
/// started. Those that end by themselves are none of them.
async fn running(node: &Node) -> anyhow::Result<BTreeMap<String, Since>> {
    let mut pods = node.sandboxes().await?;
    pods.retain(|pod| pod.labels.contains_key(RESTLESS));
    let mut running = BTreeMap::new();
    for container in node.containers().await? {
        let restless = pods.iter().any(|pod| pod.id == container.pod_sandbox_id);
        if container.state() == ContainerState::ContainerRunning && !restless {
            let started = node.status(&container.id).await?.started_at;
            running.insert(container.id, (container.pod_sandbox_id, started));
        }
    }
    Ok(running)
}

/// How often the kubelet has compared a pod with what runs of it, since its start.
async fn comparisons() -> anyhow::Result<usize> {
    let text = http::get(READ_ONLY_PORT, "/metrics").await?;
    Ok(text.lines().filter_map(compared).sum())
}

/// What a line of the kubelet's metrics says of that.
fn compared(line: &str) -> Option<usize> {
    let labels = line.strip_prefix("kubelet_pod_worker_duration_seconds_count{")?;
    labels.rsplit_once("} ")?.1.parse().ok()
}

/// Waits until the kubelet has compared so many pods with what runs twice, after it had done so
/// `before` times, or as often as it has now. What it takes for lost it has started again by then.
async fn settle(pods: usize, mut before: Option<usize>) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let told = comparisons().await;
        if let Ok(is) = told
            && is >= *before.get_or_insert(is) + 2 * pods
        {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "after {LIMIT:?} the kubelet has looked at pods {told:?} times, before {before:?}; \
            there are {pods}"
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// Kills and restarts both, each alone and both at once.
async fn disturb(node: &Arc<Node>) -> anyhow::Result<()> {
    let before = running(node).await?;
    let pods = before.values().map(|(pod, _)| pod);
    let pods = pods.collect::<BTreeSet<_>>().len();
    node.crash_daemon().await.context("kill -9 of the daemon")?;
    settle(pods, None).await?;
    node.kubelet
        .lock()
        .await
        .restart(Signal::TERM)
        .await
        .context("restart of the kubelet")?;
    settle(pods, Some(0)).await?;
    node.stop_daemon().await.context("stop of the daemon")?;
    node.kubelet.lock().await.kill()?;
    node.start_daemon().await.context("start of the daemon")?;
    node.kubelet
        .lock()
        .await
        .restart(Signal::KILL)
        .await
        .context("start of the kubelet")?;
    settle(pods, Some(0)).await?;
    let after = running(node).await?;
    for (id, since) in &before {
        ensure!(
            after.get(id) == Some(since),
            "container {id} no longer runs"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_of_every_kind_count() {
        let lines = "# HELP kubelet_pod_worker_duration_seconds Duration\n\
            kubelet_pod_worker_duration_seconds_count{operation_type=\"create\"} 3\n\
            kubelet_pod_worker_duration_seconds_sum{operation_type=\"sync\"} 7\n\
            kubelet_pod_worker_duration_seconds_count{operation_type=\"sync\"} 11\n";
        assert_eq!(lines.lines().filter_map(compared).sum::<usize>(), 14);
    }
}
