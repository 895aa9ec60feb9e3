//! A shim's process: whether it lives, told by a pidfd and never by a bare pid.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use skiff_shim_proto::process::Stat;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::watch::watch;

/// A process as a record names it: a pid alone may be somebody else's tomorrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Pid in the daemon's namespace.
    pub pid: i32,
    /// Field 22 of /proc/pid/stat, clock ticks after boot.
    pub start_time: u64,
}

impl ProcessId {
    /// Whether it runs: neither gone, nor ended and waiting to be reaped.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_ok_and(|stat| stat.start_time == self.start_time && !stat.is_dead())
    }
}

/// A shim's process.
#[derive(Debug)]
pub struct Process {
    /// Its name for records.
    pub id: ProcessId,
    pidfd: AsyncFd<OwnedFd>,
    child: Option<Child>,
}

impl Process {
    /// Watches our own child.
    pub fn of_child(child: Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let pidfd = open(pid)?;
        let start_time = start_time(pid)?;
        Ok(Self {
            id: ProcessId { pid, start_time },
            pidfd,
            child: Some(child),
        })
    }

    /// Watches a process that an earlier daemon started; `None` when it has ended.
    pub fn find(id: ProcessId) -> io::Result<Option<Self>> {
        let pidfd = match open(id.pid) {
            Ok(pidfd) => pidfd,
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        // Read after the pidfd is open: what has the right start time now is what the pidfd is of.
        match start_time(id.pid) {
            Ok(found) if found == id.start_time => Ok(Some(Self {
                id,
                pidfd,
                child: None,
            })),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Waits for its end, and reaps it when it is our child.
    pub async fn ended(&mut self) {
        // A pidfd becomes readable once and stays so. It cannot be waited for when the daemon
        // ends, which must not look like the end of the process.
        if self.pidfd.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// SIGKILL.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
    }
}

fn open(pid: i32) -> io::Result<AsyncFd<OwnedFd>> {
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other(format!("{pid} is no pid")))?;
    watch(pidfd_open(pid, PidfdFlags::empty())?, Interest::READABLE)
}

/// Field 22 of /proc/pid/stat, clock ticks after boot.
pub fn start_time(pid: i32) -> io::Result<u64> {
    stat(pid).map(|stat| stat.start_time)
}

fn stat(pid: i32) -> io::Result<Stat> {
    let bytes = std::fs::read(format!("/proc/{pid}/stat"))?;
    let unknown = || io::Error::other(format!("/proc/{pid}/stat is not in the form of proc(5)"));
    Stat::parse(&bytes).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_killed_child_ends_and_its_pid_with_another_start_time_is_nobody() {
        let child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let mut process = Process::of_child(child).unwrap();
        let id = process.id;
        assert!(Process::find(id).unwrap().is_some() && id.is_alive());
        let reused = ProcessId {
            start_time: id.start_time + 1,
            ..id
        };
        assert!(Process::find(reused).unwrap().is_none() && !reused.is_alive());
        process.kill();
        process.ended().await;
        assert!(Process::find(id).unwrap().is_none() && !id.is_alive());
    }
}
