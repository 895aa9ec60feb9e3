//! `[container]`: what containers start from.

use std::collections::BTreeMap;

use oci_spec::runtime::Capability;
use serde::{Deserialize, Serialize};

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
