//! Facts about processes, from /proc.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};

use skiff_shim_proto::process::Stat;

use crate::Error;

/// Field 22 of /proc/pid/stat, in clock ticks after boot.
pub fn start_time(pid: i32) -> Result<u64, Error> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read(&path).map_err(|e| Error::system(format!("read {path}"), e))?;
    match Stat::parse(&stat) {
        Some(stat) => Ok(stat.start_time),
        None => Err(Error::invalid(path, "not in the form of proc(5)")),
    }
}

/// The pid of a pidfd's process, as the caller's PID namespace and /proc have it.
pub(crate) fn of(pidfd: BorrowedFd<'_>) -> Result<i32, Error> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = fs::read_to_string(&path).map_err(|e| Error::system(format!("read {path}"), e))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    match pid.and_then(|pid| pid.trim().parse().ok()) {
        Some(pid) if pid > 0 => Ok(pid),
        _ => Err(Error::invalid(path, "names no process (has it ended?)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    use std::os::fd::AsFd;

    #[test]
    fn a_pidfd_has_a_pid() {
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        assert_eq!(of(pidfd.as_fd()).unwrap(), std::process::id() as i32);
        let null = fs::File::open("/dev/null").unwrap();
        assert!(of(null.as_fd()).is_err());
    }

    #[test]
    fn own_start_time_is_readable() {
        assert!(start_time(std::process::id() as i32).unwrap() > 0);
    }
}
