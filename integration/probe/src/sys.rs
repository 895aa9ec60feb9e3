//! System calls without a safe wrapper.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// ioctl_ns(2): the user namespace that owns a namespace.
const NS_GET_USERNS: libc::c_ulong = 0xb701;

/// The user namespace that owns `namespace`, an open file of /proc/PID/ns.
pub(crate) fn owner(namespace: &File) -> io::Result<OwnedFd> {
    // SAFETY: the request has no argument; `namespace` is open.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for this call, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// System calls that are tried with every argument zero, by name. Where such a call is permitted it
/// fails for its arguments (EFAULT, EINVAL and the like) or does nothing that outlives the process.
const HARMLESS: &[(&str, libc::c_long)] = &[
    ("acct", libc::SYS_acct),
    ("add_key", libc::SYS_add_key),
    ("bpf", libc::SYS_bpf),
    ("clone3", libc::SYS_clone3),
    ("delete_module", libc::SYS_delete_module),
    ("finit_module", libc::SYS_finit_module),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsopen", libc::SYS_fsopen),
    ("get_mempolicy", libc::SYS_get_mempolicy),
    ("init_module", libc::SYS_init_module),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("kcmp", libc::SYS_kcmp),
    ("kexec_load", libc::SYS_kexec_load),
    ("keyctl", libc::SYS_keyctl),
    ("lookup_dcookie", libc::SYS_lookup_dcookie),
    ("move_mount", libc::SYS_move_mount),
    ("name_to_handle_at", libc::SYS_name_to_handle_at),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("open_tree", libc::SYS_open_tree),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("pivot_root", libc::SYS_pivot_root),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("quotactl", libc::SYS_quotactl),
    ("request_key", libc::SYS_request_key),
    ("swapon", libc::SYS_swapon),
    ("syslog", libc::SYS_syslog),
    ("umount2", libc::SYS_umount2),
    ("userfaultfd", libc::SYS_userfaultfd),
];

/// Calls one of [`HARMLESS`]; `None` when the name is not one of them.
pub(crate) fn with_zeroes(name: &str) -> Option<io::Result<()>> {
    let (_, number) = HARMLESS.iter().find(|(each, _)| *each == name)?;
    // SAFETY: every pointer among the arguments is null, so the kernel reads and writes no memory of
    // this process; a descriptor that the call may return stays open until the process ends.
    let returned = unsafe { libc::syscall(*number, 0, 0, 0, 0, 0, 0) };
    Some(answer(returned))
}

/// unshare(2) of `flags`, in a process of one thread.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is passed, and no other thread shares what is unshared.
    answer(unsafe { libc::unshare(flags) }.into())
}

/// ptrace(2): seizes the process `pid`, which goes on, and lets go of it at this process's end.
pub(crate) fn seize(pid: libc::pid_t) -> io::Result<()> {
    const SEIZE: libc::c_uint = 0x4206;
    // SAFETY: PTRACE_SEIZE reads no memory of this process; address and options are zero.
    answer(unsafe { libc::ptrace(SEIZE, pid, 0, 0) })
}

fn answer(returned: libc::c_long) -> io::Result<()> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
