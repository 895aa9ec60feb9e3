//! Work that may take long, done by a process of its own.
//!
//! The callers of this library have one thread and others to serve (a second thread would break the
//! child of the next clone3, see `sys::clone`). So such work goes to a copy of the caller, which
//! answers with bytes and ends; the caller reaps it with all its children, and then reads them.
//!
//! What must hold: the copy has no descriptor of the caller's, which others wait to see closed. It
//! does not outlive the caller: what it works on is looked after by nobody then, and may be removed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use crate::error::Doing;
use crate::namespace::Namespaces;
use crate::{Error, sys};

/// Most that an answer may have, in bytes: what a pipe holds at least, so that nobody needs to read
/// before the end.
pub const MAX_ANSWER: usize = 4096;

/// Work under way.
#[derive(Debug)]
pub struct Aside {
    pid: i32,
    pidfd: OwnedFd,
    answer: OwnedFd,
}

impl Aside {
    /// Has a process do the work. Of its answer only the first [`MAX_ANSWER`] bytes count.
    pub fn begin(work: impl FnOnce() -> Vec<u8>) -> Result<Self, Error> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (answer, tell) = pipe_with(flags).doing(|| "make a pipe")?;
        let caller = getpid();
        let child = sys::clone::clone3(Namespaces::empty(), None, || {
            sys::process::reset_signals();
            if !ends_with(caller) {
                sys::process::exit(1);
            }
            if sys::fd::close_all_but(0, &mut [tell.as_raw_fd()]).is_err() {
                sys::process::exit(1);
            }
            let said = work();
            let length = said.len().min(MAX_ANSWER);
            // The caller takes silence for a failure.
            let told = rustix::io::write(&tell, &said[..length]);
            sys::process::exit(i32::from(told.is_err()))
        })
        .doing(|| "clone a process for work that may take long")?;
        Ok(Self {
            pid: child.pid,
            pidfd: child.pidfd,
            answer,
        })
    }

    /// Host pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The process, for signals.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// What it said; empty when it was ended before. For when it is reaped.
    pub fn answer(self) -> Result<Vec<u8>, Error> {
        let mut said = vec![0; MAX_ANSWER];
        let length = match retry_on_intr(|| rustix::io::read(&self.answer, &mut said)) {
            Err(Errno::AGAIN) => 0,
            done => done.doing(|| format!("hear what process {} has come to", self.pid))?,
        };
        said.truncate(length);
        Ok(said)
    }
}

/// Has the calling process killed when its parent ends. False when that has happened.
fn ends_with(parent: Pid) -> bool {
    set_parent_process_death_signal(Some(Signal::KILL)).is_ok() && getppid() == Some(parent)
}
