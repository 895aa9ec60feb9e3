//! Exec: a URL at which a command is run in a container.

use std::sync::Arc;

use skiff_cri::v1::{ExecRequest, ExecResponse};
use skiff_streaming::{Job, Streams};

use super::{RpcError, check_streams, find_container};
use crate::container::session;
use crate::daemon::Daemon;

/// The command runs once the client comes to the URL.
pub async fn handle(daemon: &Daemon, request: ExecRequest) -> Result<ExecResponse, RpcError> {
    if request.cmd.is_empty() {
        return Err(RpcError::missing("cmd"));
    }
    let streams = check_streams(Streams {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        tty: request.tty,
    })?;
    let none = || RpcError::NoContainer(request.container_id.clone());
    let (id, pod) = find_container(daemon, &request.container_id)
        .await?
        .ok_or_else(none)?;
    let view = pod.view();
    let container = view.containers.get(&id).ok_or_else(none)?;
    let client = view.client_for("exec in", container).map_err(Arc::new)?;
    let command = session::exec(client, container, &request.cmd, streams).map_err(Arc::new)?;
    let url = daemon.streaming.url(Job::Command {
        streams,
        // The command waits for its client.
        burst: 0,
        command,
    })?;
    Ok(ExecResponse { url })
}
