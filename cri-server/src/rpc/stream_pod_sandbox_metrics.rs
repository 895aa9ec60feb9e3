//! StreamPodSandboxMetrics: ListPodSandboxMetrics without a limit on the size of the answer.

use skiff_cri::v1::{StreamPodSandboxMetricsRequest, StreamPodSandboxMetricsResponse};

use super::{RpcError, list_pod_sandbox_metrics, parts};
use crate::daemon::Daemon;

/// The messages of the stream, each with the metrics of at least one pod.
pub async fn handle(
    daemon: &Daemon,
    _: StreamPodSandboxMetricsRequest,
) -> Result<Vec<StreamPodSandboxMetricsResponse>, RpcError> {
    let parts = parts(list_pod_sandbox_metrics::list(daemon).await).into_iter();
    Ok(parts
        .map(|pod_sandbox_metrics| StreamPodSandboxMetricsResponse {
            pod_sandbox_metrics,
        })
        .collect())
}
