//! Device nodes and the rules of the device cgroup.
//!
//! The runtime itself makes and allows the standard nodes (null, zero, full, random, urandom,
//! tty, ptmx), as the runtime-spec demands; here are only those a request adds. Those of CDI
//! devices come in [`crate::cdi`].

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

use crate::SpecError;
use crate::input::{HostDevice, Input, RequestedDevice};

/// The nodes to make, and who may use which: last match wins.
pub(crate) struct DeviceParts {
    pub(crate) nodes: Vec<LinuxDevice>,
    pub(crate) rules: Vec<LinuxDeviceCgroup>,
}

/// Devices of a container. A privileged one gets every node of the host and may use all; what a
/// request names goes before those at the same path.
pub(crate) fn devices(input: &Input<'_>) -> Result<DeviceParts, SpecError> {
    let privileged = input.privileged();
    let mut parts = DeviceParts {
        nodes: Vec::new(),
        rules: vec![rule(None, privileged, "rwm")?],
    };
    for (i, device) in input.devices.requested.iter().enumerate() {
        check(device, i)?;
        parts
            .nodes
            .push(node(&device.node, &device.container_path)?);
        if !privileged {
            parts
                .rules
                .push(rule(Some(&device.node), true, &device.permissions)?);
        }
    }
    if privileged {
        for device in &input.devices.host {
            if !parts.nodes.iter().any(|node| *node.path() == device.path) {
                parts.nodes.push(node(device, &device.path)?);
            }
        }
    }
    Ok(parts)
}

fn check(device: &RequestedDevice, i: usize) -> Result<(), SpecError> {
    if !device.container_path.is_absolute() {
        let reason = format!("{} is not absolute", device.container_path.display());
        return Err(SpecError::invalid(
            format!("devices[{i}].container_path"),
            reason,
        ));
    }
    let permissions = &device.permissions;
    if permissions.is_empty() || permissions.chars().any(|c| !"rwm".contains(c)) {
        let reason = format!("{permissions:?} is not made of r, w and m");
        return Err(SpecError::invalid(
            format!("devices[{i}].permissions"),
            reason,
        ));
    }
    Ok(())
}

pub(crate) fn node(device: &HostDevice, path: &std::path::Path) -> Result<LinuxDevice, SpecError> {
    let builder = LinuxDeviceBuilder::default()
        .path(path)
        .typ(device.kind)
        .major(i64::from(device.major))
        .minor(i64::from(device.minor))
        .file_mode(device.mode)
        .uid(device.uid)
        .gid(device.gid);
    Ok(builder.build()?)
}

pub(crate) fn rule(
    device: Option<&HostDevice>,
    allow: bool,
    access: &str,
) -> Result<LinuxDeviceCgroup, SpecError> {
    let rule = LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .access(access);
    let rule = match device {
        Some(device) => rule
            .typ(device.kind)
            .major(i64::from(device.major))
            .minor(i64::from(device.minor)),
        None => rule.typ(LinuxDeviceType::A),
    };
    rule.build()
        .map_err(|e| SpecError::invalid("devices", e.to_string()))
}
