//! Where things are on disk. Every path the daemon makes is made here.

use std::io;
use std::path::{Path, PathBuf};

use skiff_shim_proto::record::run_dir;

use crate::id::Id;

/// Directory of named network namespaces, shared with `ip netns`.
const NETNS: &str = "/run/netns";

/// The two directories of one daemon.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Lasting state, such as /var/lib/skiff.
    pub root: PathBuf,
    /// What a reboot may clear, such as /run/skiff.
    pub state: PathBuf,
    /// Named network namespaces.
    pub netns: PathBuf,
}

impl Layout {
    /// The layout of a daemon with these directories.
    pub fn new(root: PathBuf, state: PathBuf) -> Self {
        Self {
            root,
            state,
            netns: NETNS.into(),
        }
    }

    /// Makes the directories that must be there before anything else happens.
    pub fn make(&self) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        for dir in [
            self.pods(),
            self.containers(),
            self.quarantine(),
            self.shims(),
        ] {
            private.create(&dir).map_err(|e| {
                io::Error::new(e.kind(), format!("make directory {}: {e}", dir.display()))
            })?;
        }
        std::fs::create_dir_all(&self.netns)
    }

    /// All pod records.
    pub fn pods(&self) -> PathBuf {
        self.root.join("state/pods")
    }

    /// The directory of one pod's record and files.
    pub fn pod(&self, id: &Id) -> PathBuf {
        self.pods().join(id.as_str())
    }

    /// All container records.
    pub fn containers(&self) -> PathBuf {
        self.root.join("state/containers")
    }

    /// The directory of one container's record and files.
    pub fn container(&self, id: &Id) -> PathBuf {
        self.containers().join(id.as_str())
    }

    /// Records that could not be read.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("state/quarantine")
    }

    /// Run directories of all living shims.
    pub fn shims(&self) -> PathBuf {
        self.state.join("shims")
    }

    /// The run directory of one shim.
    pub fn shim(&self, shim: &str) -> PathBuf {
        self.shims().join(shim)
    }

    /// The name of a pod's network namespace.
    pub fn netns(&self, pod: &Id) -> PathBuf {
        self.netns.join(format!("{NETNS_PREFIX}{}", pod.short()))
    }
}

/// Prefix of the names of our network namespaces.
pub const NETNS_PREFIX: &str = "skiff-";
/// Prefix of the names of our cgroups.
pub const CGROUP_PREFIX: &str = "skiff-";
/// Name of a pod record in its directory.
pub const POD_RECORD: &str = "pod.json";
/// Name of a container record in its directory.
pub const CONTAINER_RECORD: &str = "container.json";
/// The request that a record came from, as protocol buffer.
pub const REQUEST: &str = "request.pb";
/// The runtime-spec configuration of a container.
pub const SPEC: &str = "config.json";
/// The exit record that a shim writes for a container.
pub const EXIT_RECORD: &str = "exit.json";

/// The listening socket in the run directory of a shim.
pub fn shim_socket(run_dir: &Path) -> PathBuf {
    run_dir.join(run_dir::SOCKET)
}

/// The standard error of the shim with this run directory.
pub fn shim_log(run_dir: &Path) -> PathBuf {
    run_dir.join(run_dir::LOG)
}
