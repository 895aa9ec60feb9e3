//! What the threads that read a stranger's bytes may ask of the kernel.
//!
//! A blob is inflated by one thread and its archive unpacked by another. Before the first byte each
//! puts a filter on itself (seccomp(2), by seccompiler), under which all but the calls that its work
//! takes fail with EPERM: no program can be executed, nothing traced, mounted or connected to, and
//! the one that inflates can open no file. The filter is the thread's and ends with it.
//!
//! What it does not do: the memory is the daemon's, so a parser that is taken over completely can
//! still change what other threads do. It takes the shortest ways, not all of them. Where the
//! kernel has no filters, or the architecture is unknown, the threads go without.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// Computing, memory, and telling other threads (a runtime is woken by a write).
const COMPUTING: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_write,
];

/// Files, directories and what belongs to them.
const FILES: &[i64] = &[
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_llistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lseek,
    libc::SYS_lsetxattr,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_renameat2,
    libc::SYS_setxattr,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_writev,
];

/// What C libraries call on x86-64 in the place of those with a directory's descriptor.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_open,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_rmdir,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[libc::SYS_renameat];

static INFLATING: LazyLock<Option<BpfProgram>> = LazyLock::new(|| program(&[COMPUTING]));
static UNPACKING: LazyLock<Option<BpfProgram>> =
    LazyLock::new(|| program(&[COMPUTING, FILES, OLDER]));

/// What a thread does from here on to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Turns bytes into bytes.
    Inflating,
    /// Turns an archive into files.
    Unpacking,
}

/// Takes from the calling thread what its work does not need, as far as this host can.
pub(super) fn confine(work: Work) {
    let program = match work {
        Work::Inflating => &*INFLATING,
        Work::Unpacking => &*UNPACKING,
    };
    let Some(program) = program else { return };
    if let Err(error) = apply_filter(program) {
        tracing::debug!(%error, ?work, "a thread that reads a layer is not confined");
    }
}

/// `None` for an architecture that seccompiler does not know.
fn program(allowed: &[&[i64]]) -> Option<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).ok()?;
    let calls = allowed.iter().copied().flatten();
    let rules: BTreeMap<i64, _> = calls.map(|call| (*call, Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, arch).ok()?;
    filter.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, ErrorKind};
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use super::*;

    /// Does `attempt` in a thread of its own, confined.
    fn confined<T: Send + 'static>(
        work: Work,
        attempt: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<(), ErrorKind> {
        let thread = std::thread::spawn(move || {
            confine(work);
            attempt().map(drop).map_err(|e| e.kind())
        });
        thread.join().unwrap()
    }

    #[test]
    fn nothing_but_files_can_be_had_while_unpacking() {
        let denied = Err(ErrorKind::PermissionDenied);
        let work = Work::Unpacking;
        assert_eq!(confined(work, || Command::new("/bin/true").spawn()), denied);
        assert_eq!(confined(work, || TcpListener::bind("127.0.0.1:0")), denied);
        assert_eq!(confined(work, UnixStream::pair), denied);
        assert_eq!(
            confined(work, || Ok(rustix::mount::unmount(
                "/none",
                rustix::mount::UnmountFlags::empty()
            )?)),
            denied
        );
        assert_eq!(confined(work, || Ok(rustix::process::chroot("/")?)), denied);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(confined(work, move || std::fs::write(path, "x")), Ok(()));
    }

    #[test]
    fn no_file_can_be_had_while_inflating() {
        let denied = Err(ErrorKind::PermissionDenied);
        assert_eq!(
            confined(Work::Inflating, || File::open("/dev/null")),
            denied
        );
        let vector = || Ok(vec![0u8; 64 << 20]);
        assert_eq!(confined(Work::Inflating, vector), Ok(()));
    }

    /// It ends with its thread.
    #[test]
    fn other_threads_are_as_free_as_before() {
        confined(Work::Inflating, || Ok(())).unwrap();
        File::open("/dev/null").unwrap();
        UnixStream::pair().unwrap();
    }
}
