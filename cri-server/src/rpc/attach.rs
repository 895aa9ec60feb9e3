//! Attach: a URL at which a client has a container's streams.

use std::sync::Arc;

use skiff_cri::v1::{AttachRequest, AttachResponse};
use skiff_streaming::{Job, Streams};

use super::{RpcError, check_streams, find_container};
use crate::container::session;
use crate::daemon::Daemon;

/// Output that waits for a client which is slower than its container, in bytes of each stream. The
/// container does not wait: of what is beyond this the client misses something.
const BURST: usize = 16 << 20;

/// The client sees what the container says from the moment on at which it comes to the URL.
pub async fn handle(daemon: &Daemon, request: AttachRequest) -> Result<AttachResponse, RpcError> {
    let none = || RpcError::NoContainer(request.container_id.clone());
    let (id, pod) = find_container(daemon, &request.container_id)
        .await?
        .ok_or_else(none)?;
    let view = pod.view();
    let container = view.containers.get(&id).ok_or_else(none)?;
    let streams = check_streams(Streams {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        tty: request.tty,
    })?;
    let client = view.client_for("attach to", container).map_err(Arc::new)?;
    let command = session::attach(client, container, streams);
    let url = daemon.streaming.url(Job::Command {
        streams,
        burst: BURST,
        command,
    })?;
    Ok(AttachResponse { url })
}
