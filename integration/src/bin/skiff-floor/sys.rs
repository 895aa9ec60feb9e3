//! The two system calls without a safe wrapper: clone3 and execve.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Pid;

/// Not a flag of clone(2), so beyond the bits of one; the libc crate has it truncated.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// A child that was cloned.
pub(crate) struct Child {
    /// Its id in this process's PID namespace.
    pub(crate) pid: Pid,
    /// Refers to it.
    pub(crate) pidfd: OwnedFd,
}

/// Clones this process into `cgroup` and into new namespaces (`CLONE_NEW*`). The child runs `body`,
/// whose return means that it failed: the child says why and exits with status 1.
pub(crate) fn clone_into(
    cgroup: BorrowedFd<'_>,
    namespaces: libc::c_int,
    body: impl FnOnce() -> anyhow::Result<Infallible>,
) -> anyhow::Result<Child> {
    let mut pidfd: libc::c_int = -1;
    let flags = libc::CLONE_PIDFD | namespaces;
    // SAFETY: every field of clone_args is an integer, for which zero is a value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = CLONE_INTO_CGROUP | u64::from(flags.cast_unsigned());
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    arguments.cgroup = cgroup.as_raw_fd().unsigned_abs().into();
    // SAFETY: without CLONE_VM and a stack of its own the child is a copy of this process, as after
    // fork; this program has one thread, so no lock is held by a thread that the child has not.
    // The kernel reads `arguments` and writes `pidfd`, both alive.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    };
    if pid == 0 {
        let Err(error) = body();
        let text = format!("skiff-floor: {error:#}\n");
        // the exit status says it too
        let _ = io::stderr().write_all(text.as_bytes());
        // SAFETY: no destructor of the parent's copy may run in the child.
        unsafe { libc::_exit(1) }
    }
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    match pid {
        Some(pid) => {
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is open and only ours.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid, pidfd })
        }
        None => Err(anyhow::Error::new(io::Error::last_os_error()).context("clone3")),
    }
}

/// Becomes the program `path` with one argument after its name, and no environment.
pub(crate) fn exec(path: &CStr, argument: Option<&CStr>) -> io::Error {
    let arguments = [
        path.as_ptr(),
        argument.map_or(std::ptr::null(), CStr::as_ptr),
        std::ptr::null(),
    ];
    let environment = [std::ptr::null()];
    // SAFETY: both arrays end with a null pointer, and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}
