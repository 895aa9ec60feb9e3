//! seccomp(2).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::check;

const SECCOMP_FILTER_FLAG_NEW_LISTENER: u32 = 1 << 3;

/// Puts a filter on the calling thread; with `listen` returns the descriptor at which the calls
/// with `SECCOMP_RET_USER_NOTIF` are announced.
pub(crate) fn set_filter(
    program: &[libc::sock_filter],
    flags: u32,
    listen: bool,
) -> io::Result<Option<OwnedFd>> {
    let flags = flags
        | if listen {
            SECCOMP_FILTER_FLAG_NEW_LISTENER
        } else {
            0
        };
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `program` is a live sock_fprog whose pointer and length are those of a slice that
    // outlives the call; the kernel copies both and writes to neither.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::from_ref(&program),
        )
    })?;
    if !listen {
        return Ok(None);
    }
    // SAFETY: with NEW_LISTENER a successful call returns a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(result as RawFd) }))
}
