//! PodSandboxStats: what one pod uses.

use skiff_cri::v1::{PodSandboxStatsRequest, PodSandboxStatsResponse};

use super::{RpcError, find_pod};
use crate::daemon::Daemon;

/// Answers from memory.
pub async fn handle(
    daemon: &Daemon,
    request: PodSandboxStatsRequest,
) -> Result<PodSandboxStatsResponse, RpcError> {
    let pod = find_pod(daemon, &request.pod_sandbox_id).await?;
    let pod = pod.ok_or(RpcError::NoPod(request.pod_sandbox_id))?;
    daemon.stats.wake();
    Ok(PodSandboxStatsResponse {
        stats: Some(daemon.stats.pod(daemon, &pod.view())),
    })
}
