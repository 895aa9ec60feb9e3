//! A container's specification, put together.

use oci_spec::runtime::{LinuxBuilder, RootBuilder, Spec, SpecBuilder};

use crate::SpecError;
use crate::annotations::annotations;
use crate::devices::devices;
use crate::input::Input;
use crate::mounts::mounts;
use crate::namespaces::{namespaces, pod_namespaces};
use crate::process::process;
use crate::resources::resources;
use crate::security::hidden_paths;
use crate::selinux::container_labels;
use crate::userns;

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
    let context = input.security();
    let privileged = input.privileged();
    if privileged && !input.pod_security().is_some_and(|pod| pod.privileged) {
        return Err(SpecError::invalid(
            "linux.security_context.privileged",
            "the pod was not made for privileged containers",
        ));
    }
    let user = pod_namespaces(input.pod_config)?.user;
    userns::check_container(input, user.as_ref())?;
    let devices = devices(input)?;
    let request = input
        .config
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.as_ref());
    let mounts = mounts(input, user.as_ref())?;
    let (masked, readonly) = hidden_paths(context)?;
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(input)?)
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
    let mut spec = SpecBuilder::default()
        .version(VERSION)
        .root(root.build()?)
        .process(process(input)?)
        .mounts(mounts.mounts)
        .annotations(annotations(input))
        .linux(linux.build()?)
        .build()?;
    // The builder would name every host alike; the name is the pod's, set in its UTS namespace.
    spec.set_hostname(None);
    input.devices.cdi.apply(&mut spec)?;
    if let Some(labels) = container_labels(input)? {
        if let Some(process) = spec.process_mut() {
            process.set_selinux_label(labels.process.map(|label| label.to_string()));
        }
        if let Some(linux) = spec.linux_mut() {
            linux.set_mount_label(Some(labels.files.to_string()));
        }
    }
    if let Some(user) = &user {
        userns::apply(&mut spec, input, user)?;
    }
    Ok(spec)
}
