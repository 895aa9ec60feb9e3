//! Waiting for a container in the foreground: signals sent to this program go on to it, and its
//! exit code becomes ours.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::sys;

/// Signals to this program, held back from now on.
pub(crate) struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Holds signals back; to be called before the child is cloned, which resets them.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            fd: sys::signals()?,
        })
    }

    /// Passes signals on until the child has ended, and returns its exit code as a shell would.
    pub(crate) fn wait_for(&self, child: BorrowedFd<'_>) -> Result<ExitCode> {
        loop {
            let mut fds = [
                PollFd::new(&self.fd, PollFlags::IN),
                PollFd::new(&child, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            if !fds[1].revents().is_empty() {
                return exit_code(child);
            }
            if let Some(signal) = sys::next_signal(self.fd.as_fd())? {
                // One that has just ended needs it no more.
                let _ = sys::pidfd_send_signal(child, signal);
            }
        }
    }
}

/// Reaps a child that has ended.
fn exit_code(child: BorrowedFd<'_>) -> Result<ExitCode> {
    let status = waitid(WaitId::PidFd(child), WaitIdOptions::EXITED)?;
    let code = status.and_then(|status| {
        status
            .exit_status()
            .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
    });
    Ok(ExitCode::from(
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255),
    ))
}
