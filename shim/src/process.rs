//! The first process of a container, or that of an exec, whoever makes it.

use std::io;
use std::os::fd::AsFd;

use skiff_runtime::Init;

use crate::external::Outsider;
use crate::sys;

/// A process of a container.
#[derive(Debug)]
pub(crate) enum Process {
    /// A child that we cloned.
    Own(Init),
    /// Made by another runtime.
    External(Outsider),
}

impl Process {
    /// Host pid; 0 as long as another runtime has not told it.
    pub(crate) fn pid(&self) -> i32 {
        match self {
            Self::Own(init) => init.pid(),
            Self::External(outsider) => outsider.pid(),
        }
    }

    /// The child, when it is ours.
    pub(crate) fn own(&mut self) -> Option<&mut Init> {
        match self {
            Self::Own(init) => Some(init),
            Self::External(_) => None,
        }
    }

    /// What another runtime makes.
    pub(crate) fn external(&mut self) -> Option<&mut Outsider> {
        match self {
            Self::Own(_) => None,
            Self::External(outsider) => Some(outsider),
        }
    }

    /// Sends a signal to the process. One that has ended is no error.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        let pidfd = match self {
            Self::Own(init) => Some(init.pidfd()),
            Self::External(outsider) => outsider.pidfd().map(AsFd::as_fd),
        };
        let Some(pidfd) = pidfd else { return Ok(()) };
        match sys::send_signal(pidfd, signal) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent,
        }
    }
}
