//! PortForward: a URL at which connections to ports of a pod are made.

use std::sync::Arc;

use skiff_cri::v1::{PortForwardRequest, PortForwardResponse};
use skiff_streaming::Job;

use super::{RpcError, find_pod};
use crate::daemon::Daemon;
use crate::pod::ports::PodPorts;
use crate::pod::{PodError, State};
use crate::shim::ShimError;

/// The ports of the request are those meant by clients that cannot name any themselves.
pub async fn handle(
    daemon: &Daemon,
    request: PortForwardRequest,
) -> Result<PortForwardResponse, RpcError> {
    let listed: Result<Vec<u16>, _> = request.port.iter().map(|port| checked(*port)).collect();
    let listed = listed?;
    let pod = find_pod(daemon, &request.pod_sandbox_id)
        .await?
        .ok_or_else(|| RpcError::NoPod(request.pod_sandbox_id.clone()))?;
    let view = pod.view();
    let (State::Ready, Some(shim)) = (view.state, &view.shim) else {
        return Err(RpcError::NotReady(view.facts.id.clone()));
    };
    let client = shim.client.clone().ok_or_else(|| {
        Arc::new(PodError::Shim {
            action: "forward ports of",
            id: view.facts.id.clone(),
            source: ShimError::Unreached {
                shim: shim.id.clone(),
            },
        })
    })?;
    let ports = Arc::new(PodPorts::new(client));
    let url = daemon.streaming.url(Job::Forward { ports, listed })?;
    Ok(PortForwardResponse { url })
}

fn checked(port: i32) -> Result<u16, RpcError> {
    let checked = u16::try_from(port).ok().filter(|port| *port > 0);
    checked.ok_or_else(|| RpcError::Invalid {
        field: "port",
        reason: format!("{port} is none"),
    })
}
