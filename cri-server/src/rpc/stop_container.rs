//! StopContainer: ends a container within a time.

use std::time::Duration;

use skiff_cri::v1::{StopContainerRequest, StopContainerResponse};

use super::{RpcError, find_container};
use crate::daemon::Daemon;
use crate::pod::Command;

/// Sends the stop signal, and SIGKILL when the grace is over. Succeeds for a container that has
/// ended and for one that does not exist. A second call can shorten the grace of the first.
pub async fn handle(
    daemon: &Daemon,
    request: StopContainerRequest,
) -> Result<StopContainerResponse, RpcError> {
    /// A day: a longer grace is none that anybody waits for.
    const LONGEST: u64 = 24 * 60 * 60;
    let seconds = u64::try_from(request.timeout).unwrap_or(0).min(LONGEST);
    let grace = Duration::from_secs(seconds);
    if let Some((id, pod)) = find_container(daemon, &request.container_id).await?
        && let Some(result) = pod
            .ask(|answer| Command::StopContainer(id, grace, answer))
            .await
    {
        result?;
    }
    Ok(StopContainerResponse {})
}
