//! RuntimeConfig: tells a kubelet which cgroup driver to use itself.

use skiff_cri::v1::{LinuxRuntimeConfiguration, RuntimeConfigRequest, RuntimeConfigResponse};

use super::RpcError;
use crate::daemon::Daemon;

/// Answers with what was chosen at the start; the same for the life of the daemon.
pub async fn handle(
    daemon: &Daemon,
    _: RuntimeConfigRequest,
) -> Result<RuntimeConfigResponse, RpcError> {
    let linux = LinuxRuntimeConfiguration {
        cgroup_driver: daemon.cgroup_driver.to_cri().into(),
    };
    Ok(RuntimeConfigResponse { linux: Some(linux) })
}
