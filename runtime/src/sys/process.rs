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

/// Waits until SIGCHLD, which the caller has blocked, is pending, and takes it.
pub(crate) fn await_child_signal() {
    // SAFETY: sigset_t is plain data for which all zeroes is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live sigset_t.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: the pointer is to an initialised sigset_t, the signal a valid one.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: the set is initialised above; no information is asked for.
    unsafe { libc::sigwaitinfo(&raw const set, ptr::null_mut()) };
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
