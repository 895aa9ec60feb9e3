//! RuntimeConfig: tells a kubelet which cgroup driver to use itself.

use skiff_cri::v1::{
    CgroupDriver, LinuxRuntimeConfiguration, RuntimeConfigRequest, RuntimeConfigResponse,
};

use super::RpcError;
use crate::daemon::Daemon;

/// Answers from the configuration; the same for the life of the daemon.
pub async fn handle(
    daemon: &Daemon,
    _: RuntimeConfigRequest,
) -> Result<RuntimeConfigResponse, RpcError> {
    let driver = match daemon.config.cgroup_driver {
        skiff_config::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
    };
    let linux = LinuxRuntimeConfiguration {
        cgroup_driver: driver.into(),
    };
    Ok(RuntimeConfigResponse { linux: Some(linux) })
}
