//! PodSandboxStatus: all about one pod.

use std::collections::BTreeMap;

use serde_json::json;
use skiff_cri::v1::{PodSandboxStatusRequest, PodSandboxStatusResponse};

use super::{RpcError, find_pod};
use crate::clock;
use crate::daemon::Daemon;
use crate::pod::PodView;

/// Answers from the pod's view, with the status of its containers as of the same moment.
pub async fn handle(
    daemon: &Daemon,
    request: PodSandboxStatusRequest,
) -> Result<PodSandboxStatusResponse, RpcError> {
    let pod = find_pod(daemon, &request.pod_sandbox_id).await?;
    // Before the view is read: of an answer and an event, the one with the later time must be the
    // newer.
    let timestamp = clock::now();
    let view = pod.ok_or(RpcError::NoPod(request.pod_sandbox_id))?.view();
    Ok(PodSandboxStatusResponse {
        status: Some(view.status()),
        info: if request.verbose {
            info(&view)
        } else {
            BTreeMap::new()
        },
        containers_statuses: view.containers.values().map(|c| c.status()).collect(),
        timestamp,
    })
}

/// What tools look for under the key `info`: the pid whose namespaces are the pod's.
fn info(view: &PodView) -> BTreeMap<String, String> {
    let info = json!({
        "pid": view.shim.as_ref().map_or(0, |shim| shim.pid),
        "shim": view.shim.as_ref().map(|shim| &shim.id),
        "reason": view.reason,
        "networkNamespace": view.netns,
        "runtimeHandler": view.facts.runtime_handler,
    });
    BTreeMap::from([("info".into(), info.to_string())])
}
