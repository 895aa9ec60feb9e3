//! What this host can do.
//!
//! The daemon probes once at its start and reports what works, not what should; `skiffctl check`
//! shows the same facts with advice. Probes leave nothing behind.
//!
//! Map: [`Host`] the facts; [`kernel`], [`filesystem`], [`cgroup`] and [`trial`] how they are found;
//! [`device`] and [`cdi`] device nodes; [`mount`] the host's mounts; [`check`] facts judged against
//! what skiff needs.

pub mod cdi;
pub mod cgroup;
pub mod check;
pub mod device;
pub mod filesystem;
pub mod kernel;
pub mod mount;
pub mod trial;

use std::path::Path;

use skiff_spec::{AppArmor, HostFeatures, SeLinux};

use cgroup::Cgroups;
use filesystem::Overlay;
use kernel::Version;
use trial::Trial;

use crate::selinux;

/// Facts about the host that do not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct Host {
    /// The kernel's version.
    pub kernel: Version,
    /// The cgroup hierarchy; the reason why there is none to use.
    pub cgroups: Result<Cgroups, String>,
    /// What overlayfs can do; the kernel's answer when it is missing.
    pub overlay: Result<Overlay, String>,
    /// Seccomp actions of the kernel; empty without seccomp.
    pub seccomp_actions: Vec<String>,
    /// Everything that pods with user namespaces take works; otherwise what does not, and why.
    pub user_namespaces: Result<(), String>,
    /// Read-only mounts can be made so for everything below them: what the CRI calls
    /// `recursive_read_only_mounts` of a runtime handler. Otherwise what does not work, and why.
    pub recursive_read_only: Result<(), String>,
    /// The process's own capability bounding set.
    pub bounding: oci_spec::runtime::Capabilities,
    /// What SELinux can do.
    pub selinux: SeLinux,
    /// AppArmor is enabled.
    pub apparmor: bool,
}

impl Host {
    /// Looks at the host.
    pub fn probe() -> Self {
        Self {
            kernel: kernel::version(),
            cgroups: cgroup::probe(),
            overlay: filesystem::overlay(),
            seccomp_actions: kernel::seccomp_actions(),
            user_namespaces: Err("it was not tried whether they work".into()),
            recursive_read_only: Err("it was not tried whether they work".into()),
            bounding: kernel::bounding_set(),
            selinux: selinux::probe(),
            apparmor: kernel::apparmor(),
        }
    }

    /// Tries with the shim's program what cannot be told by looking, for containers below `root`,
    /// which is made later if it is not there.
    pub fn try_out(&mut self, shim: &Path, root: &Path) {
        let there = root.ancestors().find(|path| path.is_dir());
        let there = there.unwrap_or(Path::new("/"));
        self.user_namespaces = trial::ask(shim, Trial::UserNamespaces(there));
        self.recursive_read_only = trial::ask(shim, Trial::RecursiveReadOnly);
    }

    /// What containers' specifications depend on.
    pub fn features(&self) -> HostFeatures {
        let has = |f: fn(&Cgroups) -> bool| self.cgroups.as_ref().is_ok_and(f);
        HostFeatures {
            bounding: self.bounding.clone(),
            recursive_read_only: self.recursive_read_only.is_ok(),
            swap_accounting: has(|cgroups| cgroups.swap_accounting),
            hugetlb: has(|cgroups| cgroups.has("hugetlb")),
            selinux: self.selinux.clone(),
            seccomp: !self.seccomp_actions.is_empty(),
            apparmor: match self.apparmor {
                true => AppArmor::NoDefault("it was not tried".into()),
                false => AppArmor::Disabled,
            },
            user_namespaces: self.user_namespaces.clone(),
        }
    }
}
