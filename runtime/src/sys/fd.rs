//! The descriptor table of a child.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use super::check;

const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// Closes every descriptor from `first` on that is not in `keep`.
///
/// For a child right after clone3: what it inherited and does not need is closed under the
/// owners' feet, whose destructors never run there.
pub(crate) fn close_all_but(first: RawFd, keep: &mut [RawFd]) -> io::Result<()> {
    keep.sort_unstable();
    let mut from = first;
    for &fd in keep.iter().filter(|fd| **fd >= first) {
        if fd > from {
            close_range(from, fd - 1, 0)?;
        }
        from = fd + 1;
    }
    close_range(from, RawFd::MAX, 0)
}

/// Marks every descriptor from `first` on close-on-exec.
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    close_range(first, RawFd::MAX, CLOSE_RANGE_CLOEXEC)
}

/// Gives up a close-on-exec descriptor without closing it. A child on its way to exec opens some
/// forty of them, and a call to close each would cost as much as all its mounts.
pub(crate) fn leave_to_exec(fd: OwnedFd) {
    let _ = fd.into_raw_fd();
}

fn close_range(first: RawFd, last: RawFd, flags: u32) -> io::Result<()> {
    // SAFETY: close_range takes no pointers. That owners of the closed descriptors are not used
    // afterwards is upheld by the callers, see close_all_but.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) })?;
    Ok(())
}

/// Makes `target` a copy of `fd` that survives exec, closing what `target` was.
pub(crate) fn place(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes no pointers. Callers choose targets that no OwnedFd in use names:
    // 0 to 2 and the positions after them, once everything needed lies above.
    check(unsafe { libc::dup2(fd.as_raw_fd(), target) }.into())?;
    Ok(())
}
