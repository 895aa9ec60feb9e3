//! StreamContainerStats: ListContainerStats without a limit on the size of the answer.

use skiff_cri::v1::{StreamContainerStatsRequest, StreamContainerStatsResponse};

use super::{RpcError, list_container_stats, parts};
use crate::daemon::Daemon;

/// The messages of the stream, each with the stats of at least one container.
pub async fn handle(
    daemon: &Daemon,
    request: StreamContainerStatsRequest,
) -> Result<Vec<StreamContainerStatsResponse>, RpcError> {
    let parts = parts(list_container_stats::list(daemon, request.filter).await).into_iter();
    Ok(parts
        .map(|container_stats| StreamContainerStatsResponse { container_stats })
        .collect())
}
