//! Facts that the kernel tells in /proc and /sys.

use std::fmt;
use std::fs;

use oci_spec::runtime::{Capabilities, Capability};

/// A kernel's version, as far as it decides what works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The running kernel's version; 0.0 if it does not tell in numbers.
pub fn version() -> Version {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    parse_version(&release).unwrap_or(Version { major: 0, minor: 0 })
}

fn parse_version(release: &str) -> Option<Version> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    Some(Version {
        major,
        minor: numbers.next()?.parse().ok()?,
    })
}

/// Actions a seccomp filter may take; empty without seccomp.
pub fn seccomp_actions() -> Vec<String> {
    let list = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    list.split_whitespace().map(str::to_owned).collect()
}

/// AppArmor is enabled.
pub fn apparmor() -> bool {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|enabled| enabled.starts_with('Y'))
}

/// Capabilities by number (linux/capability.h).
const CAPABILITIES: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// This process's capability bounding set: what its children can have at most.
pub fn bounding_set() -> Capabilities {
    parse_bounding_set(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn parse_bounding_set(status: &str) -> Capabilities {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let mask = mask
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let numbered = CAPABILITIES.into_iter().enumerate();
    numbered
        .filter(|(number, _)| mask & (1 << number) != 0)
        .map(|(_, name)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let version = |text: &str| parse_version(text).unwrap();
        assert_eq!(
            version("6.12.5-amd64"),
            Version {
                major: 6,
                minor: 12
            }
        );
        assert_eq!(version("7.2"), Version { major: 7, minor: 2 });
        assert!(version("5.4.0") < version("5.15-rc1") && version("5.15") < version("6.3"));
        assert_eq!(parse_version("linux"), None);
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn bounding_set_is_read_from_the_mask() {
        let set = parse_bounding_set("Name:\tx\nCapBnd:\t0000010000200001\nSeccomp:\t0\n");
        let expected = [
            Capability::Chown,
            Capability::SysAdmin,
            Capability::CheckpointRestore,
        ];
        assert_eq!(set, expected.into());
        assert!(parse_bounding_set("").is_empty());
        assert_eq!(
            parse_bounding_set("CapBnd:\tffffffffffffffff").len(),
            CAPABILITIES.len()
        );
    }
}
