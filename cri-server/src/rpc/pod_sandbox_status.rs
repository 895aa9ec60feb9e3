//! PodSandboxStatus: all about one pod.

use std::collections::BTreeMap;

use serde_json::json;
use skiff_cri::v1::{PodSandboxStatusRequest, PodSandboxStatusResponse};

use super::{RpcError, find_pod};
use crate::clock;
use crate::daemon::Daemon;
use crate::pod::PodView;
use crate::telemetry::chain;

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
            info(daemon, &view)
        } else {
            BTreeMap::new()
        },
        containers_statuses: view.container_statuses(&daemon.limits),
        timestamp,
    })
}

/// What tools look for under the key `info`: the pid whose namespaces are the pod's, and its
/// network as the plugins made it.
fn info(daemon: &Daemon, view: &PodView) -> BTreeMap<String, String> {
    let facts = &view.facts;
    let cni = daemon
        .cni
        .result(facts.id.as_str())
        .unwrap_or_else(|error| {
            tracing::warn!(pod = %facts.id, error = chain(&error), "read the attachment record");
            None
        });
    let cgroup = facts
        .config
        .linux
        .as_ref()
        .map(|linux| &linux.cgroup_parent);
    let info = json!({
        "pid": view.shim.as_ref().map_or(0, |shim| shim.pid),
        "shim": view.shim.as_ref().map(|shim| &shim.id),
        "reason": view.reason,
        "networkNamespace": view.netns,
        "runtimeHandler": facts.runtime_handler,
        "cgroupParent": cgroup,
        "hostname": facts.config.hostname,
        "logDirectory": facts.config.log_directory,
        "cniResult": cni,
    });
    BTreeMap::from([("info".into(), info.to_string())])
}
