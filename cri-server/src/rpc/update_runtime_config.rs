//! UpdateRuntimeConfig: a kubelet tells the node's pod address range.

use skiff_cri::v1::{UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse};

use super::RpcError;

/// Logs the range and uses it for nothing: pods get their addresses from CNI, whose configuration
/// is the administrator's.
pub async fn handle(
    request: UpdateRuntimeConfigRequest,
) -> Result<UpdateRuntimeConfigResponse, RpcError> {
    let network = request
        .runtime_config
        .and_then(|config| config.network_config);
    if let Some(network) = network.filter(|network| !network.pod_cidr.is_empty()) {
        tracing::info!(
            pod_cidr = network.pod_cidr,
            "the kubelet tells the pod address range"
        );
    }
    Ok(UpdateRuntimeConfigResponse {})
}
