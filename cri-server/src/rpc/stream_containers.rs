//! StreamContainers: ListContainers without a limit on the size of the answer.

use skiff_cri::v1::{StreamContainersRequest, StreamContainersResponse};

use super::{RpcError, list_containers, parts};
use crate::daemon::Daemon;

/// The messages of the stream, each with at least one container.
pub async fn handle(
    daemon: &Daemon,
    request: StreamContainersRequest,
) -> Result<Vec<StreamContainersResponse>, RpcError> {
    let found = list_containers::find(daemon, request.filter).await;
    let items = found.iter().map(|container| container.item()).collect();
    Ok(parts(items)
        .into_iter()
        .map(|containers| StreamContainersResponse { containers })
        .collect())
}
