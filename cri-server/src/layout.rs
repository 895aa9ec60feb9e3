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
        use std::fs::Permissions;
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        for dir in [
            self.pods(),
            self.containers(),
            self.quarantine(),
            self.shims(),
            self.all_pod_files(),
        ] {
            private.create(&dir).map_err(|e| {
                io::Error::new(e.kind(), format!("make directory {}: {e}", dir.display()))
            })?;
        }
        // Root of a pod's user namespace goes through to what another runtime mounts for it below a
        // shim's run directory, whose name nobody else knows.
        std::fs::set_permissions(self.shims(), Permissions::from_mode(0o711))?;
        std::fs::create_dir_all(&self.netns)
    }

    /// All pod records.
    pub fn pods(&self) -> PathBuf {
        self.root.join("state/pods")
    }

    /// The record of one pod.
    pub fn pod(&self, id: &Id) -> PathBuf {
        self.pods().join(format!("{id}.{RECORD}"))
    }

    /// The files of all pods.
    pub fn all_pod_files(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// The directory of the files that one pod's containers share. On disk although no reboot
    /// needs them: containers may write to them, and /run is the host's memory.
    pub fn pod_files(&self, id: &Id) -> PathBuf {
        self.all_pod_files().join(id.as_str())
    }

    /// All container records.
    pub fn containers(&self) -> PathBuf {
        self.root.join("state/containers")
    }

    /// The record of one container.
    pub fn container(&self, id: &Id) -> PathBuf {
        self.containers().join(format!("{id}.{RECORD}"))
    }

    /// The exit record that a shim writes for a container.
    pub fn container_exit(&self, id: &Id) -> PathBuf {
        self.containers().join(format!("{id}.{EXIT}"))
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

    /// What other runtimes know of the containers of pods, unless a handler has it elsewhere.
    pub fn runtimes(&self) -> PathBuf {
        self.state.join("runtimes")
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
/// What the file names of records end with, after the id.
const RECORD: &str = "json";
/// What the file names of exit records end with.
const EXIT: &str = "exit";

/// Whose record is at this path; `None` when that is not the name of a record.
pub fn recorded(path: &Path) -> Option<Id> {
    let name = path.file_name()?.to_str()?;
    Id::parse(name.strip_suffix(RECORD)?.strip_suffix('.')?)
}

/// The listening socket in the run directory of a shim.
pub fn shim_socket(run_dir: &Path) -> PathBuf {
    run_dir.join(run_dir::SOCKET)
}

/// The standard error of the shim with this run directory.
pub fn shim_log(run_dir: &Path) -> PathBuf {
    run_dir.join(run_dir::LOG)
}
