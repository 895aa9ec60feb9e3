//! StopPodSandbox: kills a pod's containers and gives back its network.

use skiff_cri::v1::{StopPodSandboxRequest, StopPodSandboxResponse};

use super::{RpcError, find_pod};
use crate::daemon::Daemon;
use crate::pod::Command;

/// Succeeds for a pod that is stopped and for one that does not exist.
pub async fn handle(
    daemon: &Daemon,
    request: StopPodSandboxRequest,
) -> Result<StopPodSandboxResponse, RpcError> {
    if let Some(pod) = find_pod(daemon, &request.pod_sandbox_id).await?
        && let Some(result) = pod.ask(Command::Stop).await
    {
        result?;
    }
    Ok(StopPodSandboxResponse {})
}
