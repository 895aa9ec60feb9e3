//! The first process of a PID namespace that the containers of a pod share: it reaps what is
//! orphaned there and does nothing else.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::Error;

/// A running pod init.
#[derive(Debug)]
pub struct PodInit {
    /// Host pid.
    pub pid: i32,
    /// Its pidfd; serves as [`crate::Create::pid_namespace`].
    pub pidfd: OwnedFd,
}

/// Clones a pod init into a new PID namespace and, if given, a cgroup (made when missing). It
/// is named `skiff-init`, holds no descriptors and ignores signals; SIGKILL from the caller
/// ends it and with it the namespace.
pub fn spawn(cgroup: Option<&Path>) -> Result<PodInit, Error> {
    let _ = cgroup;
    Err(Error::invalid("pod_init", "under construction"))
}
