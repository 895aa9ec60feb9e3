//! RemovePodSandbox: removes a pod with its containers.

use skiff_cri::v1::{RemovePodSandboxRequest, RemovePodSandboxResponse};

use super::{RpcError, find_pod};
use crate::daemon::Daemon;
use crate::pod::Command;

/// Stops what runs first. Succeeds for a pod that does not exist.
pub async fn handle(
    daemon: &Daemon,
    request: RemovePodSandboxRequest,
) -> Result<RemovePodSandboxResponse, RpcError> {
    if let Some(pod) = find_pod(daemon, &request.pod_sandbox_id).await?
        && let Some(result) = pod.ask(Command::Remove).await
    {
        result?;
    }
    Ok(RemovePodSandboxResponse {})
}
