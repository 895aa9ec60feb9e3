//! Who the process is: user, groups, capabilities, limits.

use libcontainer::capabilities::CapabilityExt;
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::Error;
use crate::error::Doing;
use crate::oci_spec::runtime::{
    Capabilities, LinuxCapabilities, PosixRlimit, PosixRlimitType, Process,
};

/// Capabilities are numbered without gaps; the kernel says where they end.
const MOST_CAPABILITIES: u32 = 64;

/// Mask of files made by the command where the configuration has none.
const UMASK: u32 = 0o022;

/// Sets resource limits. Apart from the rest because root's own limits apply to what is still to
/// be done.
pub(crate) fn set_limits(limits: &[PosixRlimit]) -> Result<(), Error> {
    for limit in limits {
        let value = |n: u64| if n == u64::MAX { None } else { Some(n) };
        let rlimit = Rlimit {
            current: value(limit.soft()),
            maximum: value(limit.hard()),
        };
        setrlimit(resource(limit.typ()), rlimit).doing(|| {
            format!(
                "set {} to soft {}, hard {} (raising a hard limit takes CAP_SYS_RESOURCE)",
                limit.typ(),
                limit.soft(),
                limit.hard()
            )
        })?;
    }
    Ok(())
}

/// Raises the hard limits that are to be higher, which only root of the host may, and leaves
/// what is allowed now as it is.
pub(crate) fn raise_limits(limits: &[PosixRlimit]) -> Result<(), Error> {
    for limit in limits {
        let resource = resource(limit.typ());
        let now = getrlimit(resource);
        let wanted = (limit.hard() != u64::MAX).then_some(limit.hard());
        let higher = match (now.maximum, wanted) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(now), Some(wanted)) => wanted > now,
        };
        if higher {
            let raised = Rlimit {
                current: now.current,
                maximum: wanted,
            };
            setrlimit(resource, raised).doing(|| {
                format!(
                    "raise the hard limit {} to {} (it takes CAP_SYS_RESOURCE)",
                    limit.typ(),
                    limit.hard()
                )
            })?;
        }
    }
    Ok(())
}

/// Gives up what the process will not need, while still root: capabilities of the bounding set,
/// one call each, since the kernel has no other way; permissions of new files.
pub(crate) fn shed(process: &Process) -> Result<(), Error> {
    if let Some(capabilities) = process.capabilities() {
        drop_bounding(set(capabilities.bounding()))?;
    }
    let umask = process.user().umask().unwrap_or(UMASK);
    rustix::process::umask(Mode::from_raw_mode(umask));
    Ok(())
}

/// Becomes the user of the configuration, with its groups and capabilities.
///
/// The order matters: permitted capabilities are kept over the change of user; ambient ones come
/// after the sets that they must be in. `last_as_root` is called when nothing else is left that
/// needs no privilege.
pub(crate) fn become_user(
    process: &Process,
    last_as_root: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let user = process.user();
    let wanted = process.capabilities().as_ref().map(Sets::from);
    if user.uid() != 0
        && let Some(wanted) = &wanted
        && !wanted.rest.permitted.is_empty()
    {
        set_keep_capabilities(true).doing(|| "keep capabilities over the change of user")?;
    }
    let groups: Vec<Gid> = user
        .additional_gids()
        .iter()
        .flatten()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    set_thread_groups(&groups).doing(|| "set supplementary groups")?;
    let gid = Gid::from_raw(user.gid());
    set_thread_res_gid(gid, gid, gid).doing(|| format!("become group {}", user.gid()))?;
    last_as_root()?;
    let uid = Uid::from_raw(user.uid());
    set_thread_res_uid(uid, uid, uid).doing(|| format!("become user {}", user.uid()))?;
    if let Some(wanted) = &wanted {
        set_capabilities(None, wanted.rest)
            .doing(|| format!("set capabilities to permitted {:?}", wanted.rest.permitted))?;
        for capability in wanted.ambient.iter() {
            configure_capability_in_ambient_set(capability, true)
                .doing(|| format!("make {capability:?} ambient"))?;
        }
    }
    Ok(())
}

/// The sets of a configuration.
#[derive(Debug, PartialEq, Eq)]
struct Sets {
    rest: CapabilitySets,
    ambient: CapabilitySet,
}

impl From<&LinuxCapabilities> for Sets {
    fn from(capabilities: &LinuxCapabilities) -> Self {
        Self {
            rest: CapabilitySets {
                effective: set(capabilities.effective()),
                permitted: set(capabilities.permitted()),
                inheritable: set(capabilities.inheritable()),
            },
            ambient: set(capabilities.ambient()),
        }
    }
}

/// Names of the capabilities that a configuration may have.
pub fn names() -> Vec<String> {
    CapabilitySet::all()
        .iter_names()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect()
}

fn set(capabilities: &Option<Capabilities>) -> CapabilitySet {
    let mut set = CapabilitySet::empty();
    for capability in capabilities.iter().flatten() {
        set |= CapabilitySet::from_bits_retain(capability.to_cap().bitmask());
    }
    set
}

fn drop_bounding(keep: CapabilitySet) -> Result<(), Error> {
    for number in 0..MOST_CAPABILITIES {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The end of what this kernel knows.
            Err(Errno::INVAL) => break,
            done => done.doing(|| format!("drop capability {number} from the bounding set"))?,
        }
    }
    Ok(())
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci_spec::runtime::Capability;
    use std::collections::HashSet;

    #[test]
    fn sets_are_kept_apart() {
        let mut capabilities = LinuxCapabilities::default();
        let of = |list: &[Capability]| Some(list.iter().copied().collect::<HashSet<_>>());
        capabilities.set_effective(of(&[Capability::Chown]));
        capabilities.set_permitted(of(&[Capability::Chown, Capability::NetRaw]));
        capabilities.set_inheritable(None);
        capabilities.set_ambient(of(&[]));
        let sets = Sets::from(&capabilities);
        assert_eq!(sets.rest.effective, CapabilitySet::CHOWN);
        assert_eq!(
            sets.rest.permitted,
            CapabilitySet::CHOWN | CapabilitySet::NET_RAW
        );
        assert!(sets.rest.inheritable.is_empty() && sets.ambient.is_empty());
    }
}
