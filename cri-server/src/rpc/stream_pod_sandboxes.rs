//! StreamPodSandboxes: ListPodSandbox without a limit on the size of the answer.

use skiff_cri::v1::{StreamPodSandboxesRequest, StreamPodSandboxesResponse};

use super::{RpcError, list_pod_sandbox, parts};
use crate::daemon::Daemon;

/// The messages of the stream, each with at least one pod.
pub async fn handle(
    daemon: &Daemon,
    request: StreamPodSandboxesRequest,
) -> Result<Vec<StreamPodSandboxesResponse>, RpcError> {
    let parts = parts(list_pod_sandbox::list(daemon, request.filter).await).into_iter();
    Ok(parts
        .map(|pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes })
        .collect())
}
