//! System calls that have no safe wrapper. The only module of this crate with unsafe code;
//! everything in it is safe to call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Blocks the signals that an event loop wants to read, and those that must not end a pod's
/// monitor, and returns a non-blocking signalfd for them.
pub(crate) fn signals() -> io::Result<OwnedFd> {
    // SAFETY: sigset_t is plain data for which all zeroes is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live sigset_t.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in [
        libc::SIGCHLD,
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
    ] {
        // SAFETY: the pointer is to an initialised sigset_t, the signal is a known one.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: the set is initialised; no old set is asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) })?;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: -1 asks for a new descriptor; the set is initialised.
    let fd = check(unsafe { libc::signalfd(-1, &raw const set, flags) })?;
    // SAFETY: a descriptor just made by the kernel, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has the kernel refuse memory that was writable and shall be executed, in this process and not
/// in its children (prctl(2), PR_SET_MDWE). Does nothing before Linux 6.6.
pub(crate) fn refuse_new_code() {
    const PR_SET_MDWE: libc::c_int = 65;
    const REFUSE_EXEC_GAIN: libc::c_ulong = 1;
    const NO_INHERIT: libc::c_ulong = 2;
    // SAFETY: PR_SET_MDWE takes no pointers. That it takes away is only asked of this process,
    // which makes no code. A kernel that does not know it changes nothing.
    unsafe {
        libc::prctl(
            PR_SET_MDWE,
            REFUSE_EXEC_GAIN | NO_INHERIT,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    };
}

/// Most signals read at once: there are five, and one that is pending is not pending again.
const PENDING: usize = 8;

/// The numbers of the signals that are pending, which are not pending any more.
pub(crate) fn take_signals(signals: &OwnedFd) -> io::Result<Vec<i32>> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut infos = [0; PENDING * SIZE];
    let length = match rustix::io::read(signals, &mut infos) {
        Ok(length) => length,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
        Err(e) => return Err(e.into()),
    };
    // ssi_signo, a u32, is the first field.
    let number = |info: &[u8]| i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
    Ok(infos[..length].chunks_exact(SIZE).map(number).collect())
}

/// Sends a signal of any number, real-time ones included.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means that of kill(2); the descriptor is open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            no_info,
            0,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Closes every descriptor from `first` on.
///
/// For the first moments of a process, which is all that has been leaked to it: what the daemon
/// left open by mistake would stay open as long as the pod.
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: takes no pointers. That nobody owns the descriptors is upheld by the one caller,
    // which has opened nothing above `first` yet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn pending_signals_are_taken_once() {
        // Blocks signals in this thread only, which ends with the test.
        let signals = signals().unwrap();
        assert!(take_signals(&signals).unwrap().is_empty());
        let me = rustix::thread::gettid();
        for signal in [libc::SIGHUP, libc::SIGHUP, libc::SIGTERM] {
            let (process, thread) = (std::process::id() as i32, me.as_raw_nonzero().get());
            // SAFETY: takes no pointers; the signals are blocked in this thread.
            let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
            assert_eq!(sent, 0);
        }
        let mut taken = take_signals(&signals).unwrap();
        taken.sort();
        assert_eq!(taken, [libc::SIGHUP, libc::SIGTERM]);
        assert!(take_signals(&signals).unwrap().is_empty());
    }

    #[test]
    fn a_realtime_signal_reaches_its_process() {
        use std::os::unix::process::ExitStatusExt;
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        send_signal(pidfd.as_fd(), libc::SIGRTMIN() + 3).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGRTMIN() + 3));
        let gone = send_signal(pidfd.as_fd(), libc::SIGTERM).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
    }
}
