//! UpdateContainerResources: changes the limits of a container.

use skiff_cri::v1::{UpdateContainerResourcesRequest, UpdateContainerResourcesResponse};

use super::{RpcError, find_container};
use crate::daemon::Daemon;
use crate::pod::Command;

/// Changes what the request sets, of a container that is created or running; all of it or, with
/// an error, nothing. Annotations are for extensions and mean nothing here.
pub async fn handle(
    daemon: &Daemon,
    request: UpdateContainerResourcesRequest,
) -> Result<UpdateContainerResourcesResponse, RpcError> {
    if request.windows.is_some() {
        return Err(RpcError::Invalid {
            field: "windows",
            reason: "this node runs Linux".into(),
        });
    }
    let change = Box::new(request.linux.unwrap_or_default());
    let answer = match find_container(daemon, &request.container_id).await? {
        Some((id, pod)) => {
            pod.ask(|answer| Command::UpdateContainer(id, change, answer))
                .await
        }
        None => None,
    };
    answer.ok_or(RpcError::NoContainer(request.container_id))??;
    Ok(UpdateContainerResourcesResponse {})
}
