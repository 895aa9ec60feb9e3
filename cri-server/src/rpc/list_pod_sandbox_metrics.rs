//! ListPodSandboxMetrics: the metrics of all pods that run.

use skiff_cri::v1::{
    ListPodSandboxMetricsRequest, ListPodSandboxMetricsResponse, PodSandboxMetrics,
};

use super::RpcError;
use crate::daemon::Daemon;
use crate::stats::metrics::Node;

/// Answers from memory.
pub async fn handle(
    daemon: &Daemon,
    _: ListPodSandboxMetricsRequest,
) -> Result<ListPodSandboxMetricsResponse, RpcError> {
    Ok(ListPodSandboxMetricsResponse {
        pod_metrics: list(daemon).await,
    })
}

/// The metrics of all pods that run.
pub async fn list(daemon: &Daemon) -> Vec<PodSandboxMetrics> {
    daemon.ready().await;
    daemon.stats.want_metrics();
    daemon.stats.wake();
    let mut node = Node::look(daemon);
    let views = daemon.store.pods().into_iter().map(|pod| pod.view());
    views
        .filter_map(|view| daemon.stats.metrics(daemon, &view, &mut node))
        .collect()
}
