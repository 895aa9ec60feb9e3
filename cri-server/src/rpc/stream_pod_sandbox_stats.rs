//! StreamPodSandboxStats: ListPodSandboxStats without a limit on the size of the answer.

use skiff_cri::v1::{StreamPodSandboxStatsRequest, StreamPodSandboxStatsResponse};

use super::{RpcError, list_pod_sandbox_stats, parts};
use crate::daemon::Daemon;

/// The messages of the stream, each with the stats of at least one pod.
pub async fn handle(
    daemon: &Daemon,
    request: StreamPodSandboxStatsRequest,
) -> Result<Vec<StreamPodSandboxStatsResponse>, RpcError> {
    let parts = parts(list_pod_sandbox_stats::list(daemon, request.filter).await).into_iter();
    Ok(parts
        .map(|pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats })
        .collect())
}
