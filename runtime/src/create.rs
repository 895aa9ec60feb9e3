//! Creating a container: everything up to the point before exec.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::namespace::Namespaces;
use crate::oci_spec::runtime::Spec;
use crate::shm::Shm;
use crate::{Error, Init, Stdio};

/// A container to create.
#[derive(Debug)]
pub struct Create<'a> {
    /// Container id, for messages and hooks.
    pub id: &'a str,
    /// The runtime-spec configuration. `root.path` is not used, [`Self::rootfs`] is;
    /// `linux.cgroupsPath` is not used, [`Self::cgroup`] is.
    pub spec: &'a Spec,
    /// Root file system.
    pub rootfs: &'a Rootfs,
    /// Absolute directory under the cgroup v2 mount, made with missing parents, limits from
    /// `linux.resources`.
    pub cgroup: &'a Path,
    /// Namespaces that the caller itself is in and the container shares: those with a path in
    /// the configuration that need not be joined.
    pub inherit: Namespaces,
    /// Attached where the configuration has a tmpfs at /dev/shm, which is private to the
    /// container otherwise.
    pub shm: Option<&'a Shm>,
    /// Join this PID namespace (a pidfd of a process in it, or an open /proc/pid/ns/pid),
    /// whatever the configuration says.
    pub pid_namespace: Option<BorrowedFd<'a>>,
    /// Descriptors 0, 1 and 2.
    pub stdio: Stdio<'a>,
    /// Directory of the configuration, told to hooks; hooks are refused without.
    pub bundle: Option<&'a Path>,
    /// A listening `SOCK_SEQPACKET` socket at which the built container waits for another
    /// process to [`Init::attach`], when the caller will not live to call [`Init::start`].
    pub gate: Option<BorrowedFd<'a>>,
    /// Descriptors 3, 4, ... of the command.
    pub extra_fds: &'a [BorrowedFd<'a>],
}

impl<'a> Create<'a> {
    /// With nothing shared but what the configuration says.
    pub fn new(
        id: &'a str,
        spec: &'a Spec,
        rootfs: &'a Rootfs,
        cgroup: &'a Path,
        stdio: Stdio<'a>,
    ) -> Self {
        Self {
            id,
            spec,
            rootfs,
            cgroup,
            inherit: Namespaces::empty(),
            shm: None,
            pid_namespace: None,
            stdio,
            bundle: None,
            gate: None,
            extra_fds: &[],
        }
    }
}

/// Layers that make a root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// An overlay, made as a detached mount.
    Overlay {
        /// Lower directories, uppermost first; at least one.
        lower: Vec<PathBuf>,
        /// Upper directory.
        upper: PathBuf,
        /// Work directory, empty, on the file system of `upper`.
        work: PathBuf,
    },
    /// A directory, bind-mounted.
    Directory(PathBuf),
}

/// Makes the cgroup with its limits and clones the child, which builds the container while
/// this returns. On error nothing is left but the cgroup's parents.
pub fn create(create: Create<'_>) -> Result<Init, Error> {
    let _ = create;
    Err(Error::invalid("create", "under construction"))
}
