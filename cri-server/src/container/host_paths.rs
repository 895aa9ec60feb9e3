//! What a request names on the host: the sources of its mounts and its devices.
//!
//! They may lie on a file system whose server is gone, where even a look never returns. So they are
//! looked at by a thread that may be lost: requests, the pod's task and readers go on without it.

use std::path::Path;

use skiff_cri::v1 as cri;
use skiff_spec::{Devices, SpecError};

use super::error::ContainerError;
use crate::host::{device, mount};
use crate::telemetry::chain;

/// What a look at the host has come to.
pub enum Found {
    /// The devices that are asked for.
    Devices(Devices),
    /// The request cannot be met.
    Refused(SpecError),
    /// A directory cannot be made.
    Failed(ContainerError),
}

/// Makes the sources of mounts that are not there, as a kubelet and its users expect, and looks
/// up the devices. The configuration is lent to the thread and comes back.
pub async fn look(config: cri::ContainerConfig) -> (cri::ContainerConfig, Found) {
    if !names_any(&config) {
        let found = look_now(&config);
        return (config, found);
    }
    let looked = tokio::task::spawn_blocking(move || {
        let found = look_now(&config);
        (config, found)
    });
    match looked.await {
        Ok(looked) => looked,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The daemon ends.
            Err(_) => std::future::pending().await,
        },
    }
}

fn names_any(config: &cri::ContainerConfig) -> bool {
    let context = config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    !config.devices.is_empty()
        || config
            .mounts
            .iter()
            .any(|mount| !mount.host_path.is_empty())
        || context.is_some_and(|context| context.privileged)
}

fn look_now(config: &cri::ContainerConfig) -> Found {
    let devices = match device::lookup(config) {
        Ok(devices) => devices,
        Err(e) => {
            let field = format!("devices[{}].host_path", e.index);
            return Found::Refused(SpecError::invalid(field, chain(&e)));
        }
    };
    if let Err(error) = make_mount_sources(config) {
        return Found::Failed(error);
    }
    match mount::check_propagation(config) {
        Ok(()) => Found::Devices(devices),
        Err(error) => Found::Refused(error),
    }
}

fn make_mount_sources(config: &cri::ContainerConfig) -> Result<(), ContainerError> {
    let sources = config.mounts.iter().map(|mount| mount.host_path.as_str());
    for source in sources.filter(|source| !source.is_empty()) {
        let path = Path::new(source);
        if !path.exists() {
            make_dir("make the mount source", path)?;
        }
    }
    Ok(())
}

/// Makes a directory and those above it.
pub fn make_dir(action: &'static str, path: &Path) -> Result<(), ContainerError> {
    std::fs::create_dir_all(path).map_err(|source| ContainerError::File {
        action,
        path: path.into(),
        source,
    })
}
