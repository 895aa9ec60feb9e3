//! A further process in a running container.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::oci_spec::runtime::Process;
use crate::{Error, Init, Stdio};

/// A process to run in a container.
#[derive(Debug)]
pub struct Exec<'a> {
    /// Complete: user, capabilities, environment, working directory, arguments.
    pub process: &'a Process,
    /// Pidfd of the container's first process; its namespaces are joined.
    pub container: BorrowedFd<'a>,
    /// The container's cgroup directory.
    pub cgroup: &'a Path,
    /// Descriptors 0, 1 and 2.
    pub stdio: Stdio<'a>,
    /// Descriptors 3, 4, ... of the command.
    pub extra_fds: &'a [BorrowedFd<'a>],
}

impl<'a> Exec<'a> {
    /// With no descriptors but the first three.
    pub fn new(
        process: &'a Process,
        container: BorrowedFd<'a>,
        cgroup: &'a Path,
        stdio: Stdio<'a>,
    ) -> Self {
        Self {
            process,
            container,
            cgroup,
            stdio,
            extra_fds: &[],
        }
    }
}

/// Clones the child into the container's cgroup and PID namespace. It joins the rest and
/// executes at once, without waiting for [`Init::start`]: the first progress is `Running` or
/// `Failed`.
pub fn exec(exec: Exec<'_>) -> Result<Init, Error> {
    let _ = exec;
    Err(Error::invalid("exec", "under construction"))
}
