//! `[container]`: what containers start from.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use oci_spec::runtime::Capability;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::check::some_size;
use crate::size::Size;
use crate::sysctl::SysctlName;
use crate::ulimit::{Ulimit, UlimitName};

/// What containers start from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Container {
    /// Size of a pod's /dev/shm.
    #[serde(deserialize_with = "some_size")]
    pub shm_size: Size,
    /// Most bytes of a line in one entry of a container's log; a longer line becomes several
    /// entries, which readers of the CRI's format join again.
    #[serde(deserialize_with = "log_entry_size")]
    pub log_entry_size: Size,
    /// Capabilities of a container that asks for no change.
    pub default_capabilities: Vec<Capability>,
    /// Kernel parameters of every pod's namespaces, unless the pod sets them otherwise.
    pub default_sysctls: BTreeMap<SysctlName, String>,
    /// Resource limits of every container's processes; those not named are the daemon's.
    pub default_ulimits: BTreeMap<UlimitName, Ulimit>,
}

impl Default for Container {
    fn default() -> Self {
        Self {
            shm_size: Size::mib(64),
            log_entry_size: Size::kib(16),
            // What images count on: the set that container runtimes have always given.
            default_capabilities: vec![
                Capability::AuditWrite,
                Capability::Chown,
                Capability::DacOverride,
                Capability::Fowner,
                Capability::Fsetid,
                Capability::Kill,
                Capability::Mknod,
                Capability::NetBindService,
                Capability::NetRaw,
                Capability::Setfcap,
                Capability::Setgid,
                Capability::Setpcap,
                Capability::Setuid,
                Capability::SysChroot,
            ],
            default_sysctls: BTreeMap::new(),
            default_ulimits: BTreeMap::new(),
        }
    }
}

/// A beginning of a line is held in memory until it is an entry, for each stream of a container.
const LOG_ENTRY_SIZES: RangeInclusive<Size> = Size::kib(1)..=Size::mib(1);

fn log_entry_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    match Size::deserialize(deserializer)? {
        size if LOG_ENTRY_SIZES.contains(&size) => Ok(size),
        size => Err(D::Error::custom(format!(
            "{size} is not from {} to {}",
            LOG_ENTRY_SIZES.start(),
            LOG_ENTRY_SIZES.end()
        ))),
    }
}
