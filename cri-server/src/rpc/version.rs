//! Version: a kubelet's probe for the API.

use skiff_cri::v1::{VersionRequest, VersionResponse};

use super::RpcError;

/// The version of the kubelet's runtime API; every other makes a kubelet refuse to start.
const KUBE_API: &str = "0.1.0";
/// The version of the CRI.
const CRI: &str = "v1";
/// Our name: the scheme of container ids in Kubernetes.
pub const RUNTIME: &str = "skiff";

/// Answers from constants; never waits.
pub async fn handle(_: VersionRequest) -> Result<VersionResponse, RpcError> {
    Ok(VersionResponse {
        version: KUBE_API.into(),
        runtime_name: RUNTIME.into(),
        runtime_version: env!("CARGO_PKG_VERSION").into(),
        runtime_api_version: CRI.into(),
    })
}
