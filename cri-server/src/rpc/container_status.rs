//! ContainerStatus: all about one container.

use std::collections::BTreeMap;

use serde_json::json;
use skiff_cri::v1::{ContainerConfig, ContainerStatusRequest, ContainerStatusResponse};

use super::{RpcError, find_container};
use crate::container::ContainerView;
use crate::container::record::ContainerRecord;
use crate::daemon::Daemon;

/// Answers from the container's view, and with the limits that its cgroup has now.
pub async fn handle(
    daemon: &Daemon,
    request: ContainerStatusRequest,
) -> Result<ContainerStatusResponse, RpcError> {
    let found = find_container(daemon, &request.container_id).await?;
    let container = found.and_then(|(id, pod)| pod.view().containers.get(&id).cloned());
    let container = container.ok_or(RpcError::NoContainer(request.container_id))?;
    Ok(ContainerStatusResponse {
        status: Some(daemon.limits.status(&container)),
        info: if request.verbose {
            info(daemon, &container)
        } else {
            BTreeMap::new()
        },
    })
}

/// What tools look for under the key `info`: the pid of the first process, and the specification
/// it was made from. Its environment is there, as it is for root in /proc.
fn info(daemon: &Daemon, container: &ContainerView) -> BTreeMap<String, String> {
    let facts = &container.facts;
    let read = ContainerRecord::read(&daemon.layout.container(&facts.id));
    let spec = read.map(|(birth, _)| birth.spec).ok();
    let info = json!({
        "sandboxID": facts.pod,
        "pid": container.state.process().map_or(0, |process| process.pid),
        "cgroup": facts.cgroup,
        "imageID": facts.image_id,
        "snapshotKey": facts.id,
        "privileged": privileged(&facts.config),
        "runtimeSpec": spec,
    });
    BTreeMap::from([("info".into(), info.to_string())])
}

fn privileged(config: &ContainerConfig) -> bool {
    let linux = config.linux.as_ref();
    let context = linux.and_then(|linux| linux.security_context.as_ref());
    context.is_some_and(|context| context.privileged)
}
