//! A container's specification, put together.

use oci_spec::runtime::{LinuxBuilder, RootBuilder, Spec, SpecBuilder};

use crate::SpecError;
use crate::annotations::annotations;
use crate::devices::devices;
use crate::input::Input;
use crate::mounts::mounts;
use crate::namespaces::namespaces;
use crate::process::process;
use crate::resources::resources;
use crate::security::{check_container, hidden_paths};

/// Version of the runtime-spec that the result keeps to.
const VERSION: &str = "1.2.0";

/// Turns a CRI request into the specification a runtime executes.
///
/// The root file system is named `rootfs`, relative to the bundle; the shim puts its own there.
/// Fails with the first field that is wrong or asks for what skiff does not offer.
pub fn container_spec(input: &Input<'_>) -> Result<Spec, SpecError> {
    if input.config.windows.is_some() {
        return Err(SpecError::unsupported("windows", "this is a Linux node"));
    }
    let context = input
        .config
        .linux
        .as_ref()
        .and_then(|l| l.security_context.as_ref());
    let privileged = context.is_some_and(|context| context.privileged);
    if privileged && !pod_is_privileged(input) {
        return Err(SpecError::invalid(
            "linux.security_context.privileged",
            "the pod was not made for privileged containers",
        ));
    }
    if let Some(context) = context {
        check_container(context, input.host)?;
    }
    let devices = devices(input, privileged)?;
    let request = input
        .config
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.as_ref());
    let mounts = mounts(input, privileged)?;
    let (masked, readonly) = hidden_paths(context)?;
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(input, privileged)?)
        .devices(devices.nodes)
        .resources(resources(request, devices.rules, input.host)?)
        .cgroups_path(input.cgroups_path)
        .masked_paths(masked)
        .readonly_paths(readonly);
    if let Some(propagation) = mounts.rootfs_propagation {
        linux = linux.rootfs_propagation(propagation);
    }
    let root = RootBuilder::default()
        .path("rootfs")
        .readonly(context.is_some_and(|context| context.readonly_rootfs));
    let spec = SpecBuilder::default()
        .version(VERSION)
        .root(root.build()?)
        .process(process(input)?)
        .mounts(mounts.mounts)
        .annotations(annotations(input))
        .linux(linux.build()?)
        .build()?;
    Ok(spec)
}

fn pod_is_privileged(input: &Input<'_>) -> bool {
    let context = input
        .pod_config
        .linux
        .as_ref()
        .and_then(|l| l.security_context.as_ref());
    context.is_some_and(|context| context.privileged)
}
