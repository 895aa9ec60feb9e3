//! Attributes of the calling process.

use std::io;
use std::ptr;

use super::check;
use crate::namespace::Namespaces;

/// Unblocks every signal and gives SIGPIPE, which Rust programs ignore, its default back.
pub(crate) fn reset_signals() {
    // SAFETY: sigset_t is plain data for which all zeroes is a value.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live sigset_t.
    unsafe { libc::sigemptyset(&raw mut none) };
    // SAFETY: the set is initialised above, and no old set is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
    // SAFETY: SIG_DFL installs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Blocks every signal that can be blocked.
pub(crate) fn block_signals() {
    // SAFETY: sigset_t is plain data for which all zeroes is a value.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live sigset_t.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: the set is initialised above, and no old set is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut()) };
}

/// Which signal has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// A child has ended.
    Child,
    /// SIGTERM, from outside of the caller's PID namespace.
    Termination,
    /// Nothing that counts, within the time given.
    Nothing,
}

/// Waits until one of SIGCHLD and SIGTERM, which the caller has blocked, is pending, and takes it;
/// no longer than `patience`, if there is one.
pub(crate) fn await_signal(patience: Option<std::time::Duration>) -> Came {
    // SAFETY: sigset_t is plain data for which all zeroes is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live sigset_t.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in [libc::SIGCHLD, libc::SIGTERM] {
        // SAFETY: the pointer is to an initialised sigset_t, the signal a valid one.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: siginfo_t is plain data for which all zeroes is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let taken = match patience {
        // SAFETY: both pointers are to live data of their kind.
        None => unsafe { libc::sigwaitinfo(&raw const set, &raw mut info) },
        Some(patience) => {
            let timeout = libc::timespec {
                tv_sec: patience.as_secs() as libc::time_t,
                tv_nsec: patience.subsec_nanos().into(),
            };
            // SAFETY: all three pointers are to live data of their kind.
            unsafe { libc::sigtimedwait(&raw const set, &raw mut info, &raw const timeout) }
        }
    };
    match taken {
        libc::SIGCHLD => Came::Child,
        // SAFETY: of a signal that a process has sent the kernel has filled in the sender: 0 for
        // one that has no number here.
        libc::SIGTERM if unsafe { info.si_pid() } == 0 => Came::Termination,
        _ => Came::Nothing,
    }
}

/// Nobody else is in the caller's PID namespace, of which it is the first process.
pub(crate) fn is_alone() -> bool {
    const EVERYBODY: libc::pid_t = -1;
    // SAFETY: kill takes no pointers; signal 0 is not sent, it is only looked for who would get it.
    let found = unsafe { libc::kill(EVERYBODY, 0) };
    check(found.into()).is_err_and(|e| e.raw_os_error() == Some(libc::ESRCH))
}

/// Moves the caller into new namespaces.
pub(crate) fn unshare(namespaces: Namespaces) -> io::Result<()> {
    debug_assert!(!namespaces.contains(Namespaces::FILES));
    // SAFETY: unsharing namespaces leaves the descriptor table shared as it was, which is what
    // rustix asks its callers to see to.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }?;
    Ok(())
}

/// Joins a new, empty session keyring, so that the keys of whoever started us are not reachable
/// from the container.
pub(crate) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring; nothing is read.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            ptr::null::<libc::c_char>(),
        )
    })?;
    Ok(())
}

/// Ends the process without running anything of the parent's that was copied into it.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}
