//! StreamPodSandboxes: ListPodSandbox without a limit on the size of the answer.

use skiff_cri::v1::{StreamPodSandboxesRequest, StreamPodSandboxesResponse};

use super::{RpcError, list_pod_sandbox, parts};
use crate::daemon::Daemon;

/// The messages of the stream, each with at least one pod.
pub async fn handle(
    daemon: &Daemon,
    request: StreamPodSandboxesRequest,
) -> Result<Vec<StreamPodSandboxesResponse>, RpcError> {
    let found = list_pod_sandbox::find(daemon, request.filter).await;
    let items = found.iter().map(|pod| pod.item()).collect();
    Ok(parts(items)
        .into_iter()
        .map(|pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes })
        .collect())
}
