//! Mandatory access control, seccomp, and the parts of /proc and /sys that are hidden.

use crate::SpecError;
use crate::cri::security_profile::ProfileType;
use crate::cri::{LinuxContainerSecurityContext, PodSandboxConfig, SecurityProfile};
use crate::input::{AppArmor, HostFeatures, pod_security};
use crate::selinux;

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

/// A security profile, of seccomp or AppArmor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// None.
    Unconfined,
    /// The runtime's own.
    RuntimeDefault,
    /// The node's: for seccomp the absolute path of a file, for AppArmor the name of a loaded
    /// profile.
    Localhost(String),
}

/// The seccomp profile of a container; none when the request says nothing, and for a privileged
/// container whatever it says (CRI, `LinuxContainerSecurityContext.privileged`).
#[expect(
    deprecated,
    reason = "old kubelets fill the field before its successor"
)]
pub fn seccomp_profile(
    context: Option<&LinuxContainerSecurityContext>,
    host: &HostFeatures,
) -> Result<Profile, SpecError> {
    const FIELD: &str = "linux.security_context.seccomp";
    let Some(context) = context.filter(|context| !context.privileged) else {
        return Ok(Profile::Unconfined);
    };
    let asked = match &context.seccomp {
        Some(profile) => read(profile, FIELD)?,
        None => deprecated(
            &context.seccomp_profile_path,
            "linux.security_context.seccomp_profile_path",
        )?
        .unwrap_or(Profile::Unconfined),
    };
    match &asked {
        Profile::Unconfined => {}
        _ if !host.seccomp => {
            return Err(SpecError::unsupported(
                FIELD,
                "this kernel has no seccomp filters",
            ));
        }
        Profile::Localhost(path) if !path.starts_with('/') => {
            let reason = format!("{path:?} is not the absolute path of a profile");
            return Err(SpecError::invalid(format!("{FIELD}.localhost_ref"), reason));
        }
        _ => {}
    }
    Ok(asked)
}

/// The AppArmor profile of a container. Where AppArmor is enabled, a request that says nothing
/// means the runtime's own (Kubernetes, "Restrict a Container's Access to Resources with
/// AppArmor"), which a privileged container is never given.
#[expect(
    deprecated,
    reason = "old kubelets fill the field before its successor"
)]
pub fn apparmor_profile(
    context: Option<&LinuxContainerSecurityContext>,
    host: &HostFeatures,
) -> Result<Profile, SpecError> {
    const FIELD: &str = "linux.security_context.apparmor";
    let asked = match context {
        None => None,
        Some(context) => match &context.apparmor {
            Some(profile) => Some(read(profile, FIELD)?),
            None => deprecated(
                &context.apparmor_profile,
                "linux.security_context.apparmor_profile",
            )?,
        },
    };
    let privileged = context.is_some_and(|context| context.privileged);
    match (asked, &host.apparmor) {
        (Some(Profile::Localhost(name)), _) if !is_word(&name) => {
            let reason = format!("{name:?} is not the name of a profile");
            Err(SpecError::invalid(format!("{FIELD}.localhost_ref"), reason))
        }
        (None | Some(Profile::RuntimeDefault), _) if privileged => Ok(Profile::Unconfined),
        (None, AppArmor::Ready) => Ok(Profile::RuntimeDefault),
        (None | Some(Profile::Unconfined), _) => Ok(Profile::Unconfined),
        (Some(_), AppArmor::Disabled) => Err(SpecError::unsupported(
            FIELD,
            "AppArmor is not enabled on this host",
        )),
        (Some(Profile::RuntimeDefault), AppArmor::NoDefault(why)) => {
            let reason = format!("the default profile is not loaded: {why}");
            Err(SpecError::unsupported(FIELD, reason))
        }
        (Some(profile), _) => Ok(profile),
    }
}

/// A name goes to the kernel as the last word of a line.
fn is_word(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Refuses a pod's security settings that cannot be meant. No process runs in a pod but those of
/// its containers, which bring profiles of their own.
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
    deprecated(
        &context.seccomp_profile_path,
        &field("seccomp_profile_path"),
    )?;
    for (name, profile) in [
        ("seccomp", &context.seccomp),
        ("apparmor", &context.apparmor),
    ] {
        if let Some(profile) = profile {
            read(profile, &field(name))?;
        }
    }
    selinux::check_pod(config, host)
}

fn read(profile: &SecurityProfile, field: &str) -> Result<Profile, SpecError> {
    match ProfileType::try_from(profile.profile_type) {
        Ok(ProfileType::Unconfined) => Ok(Profile::Unconfined),
        Ok(ProfileType::RuntimeDefault) => Ok(Profile::RuntimeDefault),
        Ok(ProfileType::Localhost) => Ok(Profile::Localhost(local(&profile.localhost_ref))),
        Err(_) => {
            let reason = format!("unknown profile type {}", profile.profile_type);
            Err(SpecError::invalid(field, reason))
        }
    }
}

/// Clients write the prefix of the deprecated fields into `localhost_ref`, too.
fn local(reference: &str) -> String {
    reference
        .strip_prefix("localhost/")
        .unwrap_or(reference)
        .to_owned()
}

/// The profile that a deprecated string field names; the empty one names none.
fn deprecated(text: &str, field: &str) -> Result<Option<Profile>, SpecError> {
    match text {
        "" => Ok(None),
        "unconfined" => Ok(Some(Profile::Unconfined)),
        "runtime/default" | "docker/default" => Ok(Some(Profile::RuntimeDefault)),
        _ => match text.strip_prefix("localhost/") {
            Some(_) => Ok(Some(Profile::Localhost(local(text)))),
            None => Err(SpecError::invalid(
                field,
                format!("{text:?} is not a profile"),
            )),
        },
    }
}
