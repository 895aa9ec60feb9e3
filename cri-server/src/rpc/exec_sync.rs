//! ExecSync: a command in a container, its output and its exit code.

use std::sync::Arc;
use std::time::Duration;

use skiff_cri::v1::{ExecSyncRequest, ExecSyncResponse};

use super::{RpcError, find_container};
use crate::container::exec::{Output, exec};
use crate::daemon::Daemon;

/// Goes to the pod's shim without asking the pod's task: probes are the commonest of calls. When
/// the time is over, or the client has gone, the command is killed with its descendants.
pub async fn handle(
    daemon: &Daemon,
    request: ExecSyncRequest,
) -> Result<ExecSyncResponse, RpcError> {
    if request.cmd.is_empty() {
        return Err(RpcError::missing("cmd"));
    }
    let limit = match request.timeout {
        0 => None,
        seconds => Some(Duration::from_secs(u64::try_from(seconds).map_err(
            |_| RpcError::Invalid {
                field: "timeout",
                reason: format!("{seconds} is negative"),
            },
        )?)),
    };
    let none = || RpcError::NoContainer(request.container_id.clone());
    let (id, pod) = find_container(daemon, &request.container_id)
        .await?
        .ok_or_else(none)?;
    let view = pod.view();
    let container = view.containers.get(&id).ok_or_else(none)?;
    let client = view.client_for("exec in", container).map_err(Arc::new)?;
    let Output {
        stdout,
        stderr,
        exit_code,
    } = exec(client, container, &request.cmd, limit)
        .await
        .map_err(Arc::new)?;
    Ok(ExecSyncResponse {
        stdout,
        stderr,
        exit_code,
    })
}
