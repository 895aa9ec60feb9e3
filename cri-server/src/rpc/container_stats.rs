//! ContainerStats: what one container uses.

use skiff_cri::v1::{ContainerStatsRequest, ContainerStatsResponse};

use super::{RpcError, find_container};
use crate::daemon::Daemon;

/// Answers from memory.
pub async fn handle(
    daemon: &Daemon,
    request: ContainerStatsRequest,
) -> Result<ContainerStatsResponse, RpcError> {
    let found = find_container(daemon, &request.container_id).await?;
    let container = found.and_then(|(id, pod)| pod.view().containers.get(&id).cloned());
    let container = container.ok_or(RpcError::NoContainer(request.container_id))?;
    daemon.stats.wake();
    Ok(ContainerStatsResponse {
        stats: Some(daemon.stats.container(daemon, &container)),
    })
}
