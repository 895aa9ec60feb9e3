//! CreateContainer: makes a container up to the point before its command runs.

use skiff_cri::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, CreateContainerResponse,
};

use super::{RpcError, find_pod};
use crate::daemon::Daemon;
use crate::pod::Command;
use crate::telemetry::Timeline;

/// Makes a container in a pod that is ready, or joins the request that is making it, or returns
/// the one that waits to be started: a client that lost its answer asks again with the same
/// configuration.
///
/// The pod's configuration is the one it was made with; the request's copy of it is not read.
pub async fn handle(
    daemon: &Daemon,
    request: CreateContainerRequest,
) -> Result<CreateContainerResponse, RpcError> {
    let config = request.config.ok_or(RpcError::missing("config"))?;
    check(&config)?;
    let no_pod = || RpcError::NoPod(request.pod_sandbox_id.clone());
    let pod = find_pod(daemon, &request.pod_sandbox_id)
        .await?
        .ok_or_else(no_pod)?;
    let timeline = Timeline::of_call(&daemon.telemetry);
    let create = |answer| Command::Create(Box::new(config), timeline, answer);
    let id = pod.ask(create).await.ok_or_else(no_pod)??;
    Ok(CreateContainerResponse {
        container_id: id.to_string(),
    })
}

fn check(config: &ContainerConfig) -> Result<(), RpcError> {
    match &config.metadata {
        None => return Err(RpcError::missing("config.metadata")),
        Some(ContainerMetadata { name, .. }) if name.is_empty() => {
            return Err(RpcError::missing("config.metadata.name"));
        }
        Some(_) => {}
    }
    match &config.image {
        Some(image) if !image.image.is_empty() => Ok(()),
        _ => Err(RpcError::missing("config.image.image")),
    }
}
