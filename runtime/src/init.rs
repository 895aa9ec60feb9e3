//! The parent's end of a child that is becoming a container process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::Error;

/// What the process gets as descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Stdio<'a> {
    /// These, in order. The caller keeps its copies and closes them when it likes.
    Fds([BorrowedFd<'a>; 3]),
    /// A new pseudo-terminal; its master side arrives with [`Progress::Ready`].
    /// `process.terminal` and `process.consoleSize` of the configuration go with it.
    Terminal,
}

/// A process under way: building, waiting for [`Init::start`], or running.
#[derive(Debug)]
pub struct Init {
    pid: i32,
    pidfd: OwnedFd,
    start_time: u64,
    status: OwnedFd,
}

/// How far the child has come.
#[derive(Debug)]
pub enum Progress {
    /// Nothing new.
    Building,
    /// The container is built and the process waits for [`Init::start`]. Told once.
    Ready {
        /// Master side of the pseudo-terminal, with [`Stdio::Terminal`].
        console: Option<OwnedFd>,
    },
    /// The command has been executed (or the process was killed on the way there: the pidfd
    /// tells).
    Running {
        /// Master side of the pseudo-terminal of an [`crate::exec`] with [`Stdio::Terminal`].
        console: Option<OwnedFd>,
    },
    /// The child gave up and exits; it remains to be reaped.
    Failed(Failure),
}

/// Why a child gave up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What was attempted, on which path, and the system's answer.
    pub message: String,
    /// The system's answer as a number; 0 when there was none.
    pub errno: i32,
    /// Set when the command itself cannot be executed: 127 when it does not exist, 126
    /// otherwise.
    pub exit_code: Option<i32>,
}

impl Init {
    /// Host pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Field 22 of /proc/pid/stat, in clock ticks after boot.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Readable once the process has ended. To be reaped with `waitid(P_PIDFD)`.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Readable when [`Self::progress`] has news; never again after `Running` or `Failed`,
    /// when it should leave the caller's epoll set.
    pub fn status_fd(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// Reads what the child has to say, without waiting.
    pub fn progress(&mut self) -> Result<Progress, Error> {
        Ok(Progress::Building)
    }

    /// Waits for the next progress other than `Building`. For callers without an event loop.
    pub fn wait(&mut self) -> Result<Progress, Error> {
        self.progress()
    }

    /// Lets a ready process execute its command. The outcome arrives with [`Self::progress`].
    pub fn start(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
