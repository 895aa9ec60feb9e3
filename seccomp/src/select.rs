//! Which rules of a profile concern a process.

use crate::arch::Arch;
use crate::profile::{Conditions, Rule};

/// Whom a filter is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Capabilities of its bounding set, as `CAP_CHOWN`.
    pub capabilities: Vec<String>,
    /// The kernel's version, major and minor.
    pub kernel: (u32, u32),
}

impl Subject {
    /// Rules with conditions apply when all of `includes` and none of `excludes` is true.
    /// Capabilities of an exclusion exclude one by one.
    pub(crate) fn is_meant(&self, rule: &Rule, native: Arch) -> bool {
        self.included(&rule.includes, native) && !self.excluded(&rule.excludes, native)
    }

    fn included(&self, wanted: &Conditions, native: Arch) -> bool {
        wanted.caps.iter().all(|cap| self.has(cap))
            && (wanted.arches.is_empty() || names(&wanted.arches, native))
            && self.is_kernel(wanted) != Some(false)
    }

    fn excluded(&self, unwanted: &Conditions, native: Arch) -> bool {
        unwanted.caps.iter().any(|cap| self.has(cap))
            || names(&unwanted.arches, native)
            || self.is_kernel(unwanted) == Some(true)
    }

    fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|own| own == capability)
    }

    /// Whether this kernel is at least the one named; `None` when none is.
    fn is_kernel(&self, conditions: &Conditions) -> Option<bool> {
        conditions.min_kernel.map(|version| self.kernel >= version)
    }
}

fn names(list: &[String], arch: Arch) -> bool {
    list.iter().any(|name| name == arch.docker_name())
}
