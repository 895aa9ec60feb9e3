//! RemoveContainer: removes a container, by force when it runs.

use skiff_cri::v1::{RemoveContainerRequest, RemoveContainerResponse};

use super::{RpcError, find_container};
use crate::daemon::Daemon;
use crate::pod::Command;

/// Succeeds for a container that does not exist. Its log stays: logs are the kubelet's.
pub async fn handle(
    daemon: &Daemon,
    request: RemoveContainerRequest,
) -> Result<RemoveContainerResponse, RpcError> {
    if let Some((id, pod)) = find_container(daemon, &request.container_id).await?
        && let Some(result) = pod.ask(|answer| Command::RemoveContainer(id, answer)).await
    {
        result?;
    }
    Ok(RemoveContainerResponse {})
}
