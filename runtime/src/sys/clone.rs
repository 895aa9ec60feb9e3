//! clone3.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;
use crate::namespace::Namespaces;

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of linux/sched.h, up to and with the field for `CLONE_INTO_CGROUP`.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A child just cloned.
pub(crate) struct Child {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// Ends the child when `body` unwinds or returns: nothing of the parent's stack may run twice.
struct NeverReturn;

impl Drop for NeverReturn {
    fn drop(&mut self) {
        // SAFETY: _exit takes no pointers and does not return.
        unsafe { libc::_exit(70) }
    }
}

/// Clones a child into new namespaces and, if given, a cgroup; it runs `body` on a copy of the
/// caller's memory with every signal handler back at its default (`CLONE_CLEAR_SIGHAND`).
///
/// The caller must have one thread: another one could hold the allocator's lock at this moment,
/// and the child would wait for it forever.
pub(crate) fn clone3(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce(),
) -> io::Result<Child> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: u64::from(namespaces.bits()) | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    args.put_in(cgroup);
    let pid = clone(&mut args, body)?;
    // SAFETY: with CLONE_PIDFD a successful clone3 has stored a new descriptor that nobody
    // else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid, pidfd })
}

/// Clones a process that is a child of the caller's parent, like the caller, and is reaped there;
/// it runs `body` on a copy of the caller's memory. Returns its pid. The caller must have one
/// thread, as for [`clone3`].
pub(crate) fn sibling(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce(),
) -> io::Result<i32> {
    // The signal that its end sends is the caller's own, and must not be given.
    let mut args = CloneArgs {
        flags: u64::from(namespaces.bits()) | libc::CLONE_PARENT as u64 | CLONE_CLEAR_SIGHAND,
        ..CloneArgs::default()
    };
    args.put_in(cgroup);
    clone(&mut args, body)
}

impl CloneArgs {
    fn put_in(&mut self, cgroup: Option<BorrowedFd<'_>>) {
        if let Some(cgroup) = cgroup {
            self.flags |= CLONE_INTO_CGROUP;
            self.cgroup = cgroup.as_raw_fd() as u64;
        }
    }
}

/// Pointers in `args` are null or to live memory of the right kind, which both callers see to.
fn clone(args: &mut CloneArgs, body: impl FnOnce()) -> io::Result<i32> {
    // SAFETY: `args` is a live clone_args of the size passed, and what it points to is live, see
    // above. Without CLONE_VM the child gets its own copy of all memory, on which it continues on
    // its own stack; NeverReturn keeps it from returning into the caller.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_mut(args),
            size_of::<CloneArgs>(),
        )
    })?;
    if pid == 0 {
        let _guard = NeverReturn;
        body();
    }
    Ok(pid as i32)
}
