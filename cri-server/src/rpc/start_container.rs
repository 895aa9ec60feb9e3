//! StartContainer: lets a created container run.

use skiff_cri::v1::{StartContainerRequest, StartContainerResponse};

use super::{RpcError, find_container};
use crate::daemon::Daemon;
use crate::pod::Command;
use crate::telemetry::Timeline;

/// Answers when the command runs, or with the reason why it cannot.
pub async fn handle(
    daemon: &Daemon,
    request: StartContainerRequest,
) -> Result<StartContainerResponse, RpcError> {
    let none = || RpcError::NoContainer(request.container_id.clone());
    let (id, pod) = find_container(daemon, &request.container_id)
        .await?
        .ok_or_else(none)?;
    let timeline = Timeline::of_call(&daemon.telemetry);
    pod.ask(|answer| Command::StartContainer(id, timeline, answer))
        .await
        .ok_or_else(none)??;
    Ok(StartContainerResponse {})
}
