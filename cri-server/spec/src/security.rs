//! Mandatory access control, seccomp, and the parts of /proc and /sys that are hidden.

use crate::SpecError;
use crate::cri::security_profile::ProfileType;
use crate::cri::{LinuxContainerSecurityContext, PodSandboxConfig, SeLinuxOption, SecurityProfile};
use crate::input::{HostFeatures, pod_security};

/// Paths that a container cannot read: the kubelet's own list, for a request that says nothing.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that a container cannot write: the kubelet's own list, for a request that says nothing.
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Masked and read-only paths.
///
/// A kubelet always sends both lists with the security context, and sends them empty for
/// `procMount: Unmasked`; on the wire an empty list is no list. So they are taken as they are
/// from a request that has a security context, and are the lists above for one without.
pub(crate) fn hidden_paths(
    context: Option<&LinuxContainerSecurityContext>,
) -> Result<(Vec<String>, Vec<String>), SpecError> {
    let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    let Some(context) = context else {
        return Ok((owned(&MASKED_PATHS), owned(&READONLY_PATHS)));
    };
    if context.privileged {
        return Ok((Vec::new(), Vec::new()));
    }
    for (field, paths) in [
        ("masked_paths", &context.masked_paths),
        ("readonly_paths", &context.readonly_paths),
    ] {
        if let Some(path) = paths.iter().find(|path| !path.starts_with('/')) {
            let field = format!("linux.security_context.{field}");
            return Err(SpecError::invalid(
                field,
                format!("{path:?} is not an absolute path"),
            ));
        }
    }
    Ok((context.masked_paths.clone(), context.readonly_paths.clone()))
}

/// Refuses a container's security profiles that would not be enforced. A privileged container
/// has no seccomp profile whatever it asks, as the CRI says.
#[expect(
    deprecated,
    reason = "old kubelets fill the fields before their successors"
)]
pub(crate) fn check_container(
    context: &LinuxContainerSecurityContext,
    host: &HostFeatures,
) -> Result<(), SpecError> {
    let field = |name: &str| format!("linux.security_context.{name}");
    if !context.privileged {
        let old = deprecated(&context.seccomp_profile_path);
        refuse_profile(context.seccomp.as_ref(), old, &field("seccomp"), None)?;
    }
    let accepted = context.privileged.then_some(ProfileType::RuntimeDefault);
    let old = deprecated(&context.apparmor_profile);
    refuse_profile(context.apparmor.as_ref(), old, &field("apparmor"), accepted)?;
    refuse_selinux(context.selinux_options.as_ref(), host)
}

/// Refuses a pod's security settings that would not be enforced. No process runs in a pod but
/// those of its containers, so RuntimeDefault, which a kubelet always sends, has nothing to do.
#[expect(
    deprecated,
    reason = "old kubelets fill the fields before their successors"
)]
pub fn check_sandbox(config: &PodSandboxConfig, host: &HostFeatures) -> Result<(), SpecError> {
    if config.windows.is_some() {
        return Err(SpecError::unsupported("windows", "this is a Linux node"));
    }
    let Some(context) = pod_security(config) else {
        return Ok(());
    };
    let field = |name: &str| format!("linux.security_context.{name}");
    let accepted = Some(ProfileType::RuntimeDefault);
    let old = deprecated(&context.seccomp_profile_path);
    refuse_profile(context.seccomp.as_ref(), old, &field("seccomp"), accepted)?;
    refuse_profile(
        context.apparmor.as_ref(),
        None,
        &field("apparmor"),
        accepted,
    )?;
    refuse_selinux(context.selinux_options.as_ref(), host)
}

/// The profile that a deprecated string field names; the empty one names none.
fn deprecated(text: &str) -> Option<ProfileType> {
    match text {
        "" => None,
        "unconfined" => Some(ProfileType::Unconfined),
        "runtime/default" | "docker/default" => Some(ProfileType::RuntimeDefault),
        _ => Some(ProfileType::Localhost),
    }
}

fn refuse_profile(
    profile: Option<&SecurityProfile>,
    deprecated: Option<ProfileType>,
    field: &str,
    accepted: Option<ProfileType>,
) -> Result<(), SpecError> {
    let kind = match profile {
        Some(profile) => Some(ProfileType::try_from(profile.profile_type).map_err(|_| {
            SpecError::invalid(
                field,
                format!("unknown profile type {}", profile.profile_type),
            )
        })?),
        None => deprecated,
    };
    match kind {
        None | Some(ProfileType::Unconfined) => Ok(()),
        kind if kind == accepted => Ok(()),
        Some(kind) => Err(SpecError::unsupported(field, kind.as_str_name())),
    }
}

/// On a host without SELinux labels mean nothing, and a kubelet sends them all the same.
fn refuse_selinux(options: Option<&SeLinuxOption>, host: &HostFeatures) -> Result<(), SpecError> {
    match options {
        Some(options) if host.selinux && *options != SeLinuxOption::default() => {
            let field = "linux.security_context.selinux_options";
            Err(SpecError::unsupported(field, "SELinux labels"))
        }
        _ => Ok(()),
    }
}
