//! UpdatePodSandboxResources: a kubelet tells that it has changed a pod's limits.

use skiff_cri::v1::{
    LinuxContainerResources, UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse,
};
use skiff_spec::update_resources;

use super::{RpcError, find_pod};
use crate::daemon::Daemon;

/// Checks and logs the request, and changes nothing: the pod's cgroup is the kubelet's, which has
/// written to it before it tells, and the containers' have their own call.
pub async fn handle(
    daemon: &Daemon,
    request: UpdatePodSandboxResourcesRequest,
) -> Result<UpdatePodSandboxResourcesResponse, RpcError> {
    let pod = find_pod(daemon, &request.pod_sandbox_id).await?;
    let pod = pod.ok_or(RpcError::NoPod(request.pod_sandbox_id))?;
    for (field, resources) in [
        ("overhead", &request.overhead),
        ("resources", &request.resources),
    ] {
        let Some(resources) = resources else { continue };
        let nothing = LinuxContainerResources::default();
        update_resources(&nothing, resources, &daemon.features).map_err(|error| {
            RpcError::Invalid {
                field,
                reason: error.to_string(),
            }
        })?;
        tracing::info!(
            pod = %pod.id(),
            field,
            cpu_shares = resources.cpu_shares,
            cpu_quota = resources.cpu_quota,
            memory = resources.memory_limit_in_bytes,
            "the kubelet has changed the pod's limits"
        );
    }
    Ok(UpdatePodSandboxResourcesResponse {})
}
