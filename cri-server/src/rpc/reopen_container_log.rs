//! ReopenContainerLog: a kubelet has rotated a container's log.

use std::sync::Arc;

use skiff_cri::v1::{ReopenContainerLogRequest, ReopenContainerLogResponse};

use super::{RpcError, find_container};
use crate::container::ContainerError;
use crate::daemon::Daemon;

/// Only for a container that runs: for another an error, and no file, so that the kubelet takes
/// its renaming back. Does not ask the pod's task, so a container that is being stopped answers.
pub async fn handle(
    daemon: &Daemon,
    request: ReopenContainerLogRequest,
) -> Result<ReopenContainerLogResponse, RpcError> {
    let none = || RpcError::NoContainer(request.container_id.clone());
    let (id, pod) = find_container(daemon, &request.container_id)
        .await?
        .ok_or_else(none)?;
    let view = pod.view();
    let container = view.containers.get(&id).ok_or_else(none)?;
    let action = "reopen the log of";
    let client = view.client_for(action, container).map_err(Arc::new)?;
    let reopened = client.reopen_log(id.as_str()).await;
    reopened.map_err(|source| Arc::new(ContainerError::Shim { action, id, source }))?;
    Ok(ReopenContainerLogResponse {})
}
