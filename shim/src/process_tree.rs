//! Kills a process of a container with everything descended from it, without touching the
//! container's other processes.
//!
//! The tree is found among the processes of the container's cgroup: the root, its session, and
//! whoever has a parent in the tree. It is stopped before it is killed, look after look, until
//! one finds everybody stopped: a stopped process cannot fork and keeps its children as its own,
//! while the children of a killed one are handed to the container's first process and lost to us.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use skiff_runtime::{Error, cgroup};
use skiff_shim_proto::process::Stat;

use crate::sys::send_signal;

/// Most looks before what was found is killed although not everybody is stopped: a process in an
/// uninterruptible sleep may never be.
const LOOKS: u32 = 500;

/// A tree about to be killed.
#[derive(Debug)]
pub(crate) struct Hunt {
    root: i32,
    cgroup: PathBuf,
    /// Stopped by us: start times by pid. No descriptors, there may be more than we can open.
    stopped: BTreeMap<i32, u64>,
    looks: u32,
}

impl Hunt {
    /// For the tree of `root`, a session leader, in a cgroup.
    pub(crate) fn new(root: i32, cgroup: &Path) -> Self {
        Self {
            root,
            cgroup: cgroup.to_path_buf(),
            stopped: BTreeMap::new(),
            looks: 0,
        }
    }

    /// Stops whoever is found. `Ok(true)`: everybody was stopped and has been killed. Otherwise
    /// to be called again, when those that were stopped had time to notice.
    pub(crate) fn look(&mut self) -> Result<bool, Error> {
        let processes = processes(&self.cgroup)?;
        let mut settled = true;
        for pid in tree(self.root, &processes) {
            let stat = &processes[&pid];
            settled &= stat.is_stopped();
            if self.stopped.insert(pid, stat.start_time) != Some(stat.start_time) {
                signal(pid, stat.start_time, libc::SIGSTOP)?;
                settled = false;
            }
        }
        self.looks += 1;
        if !settled && self.looks < LOOKS {
            return Ok(false);
        }
        for (&pid, &start_time) in &self.stopped {
            signal(pid, start_time, libc::SIGKILL)?;
        }
        Ok(true)
    }
}

/// Sends a signal to every process of a cgroup and below.
pub(crate) fn signal_all(cgroup: &Path, number: i32) -> Result<(), Error> {
    for (pid, stat) in processes(cgroup)? {
        signal(pid, stat.start_time, number)?;
    }
    Ok(())
}

/// Signals a process, unless it is gone or its pid is somebody else's by now.
fn signal(pid: i32, start_time: u64, number: i32) -> Result<(), Error> {
    let failed = |e: io::Error| Error::system(format!("send signal {number} to process {pid}"), e);
    let Some(id) = Pid::from_raw(pid) else {
        return Ok(());
    };
    let pidfd = match pidfd_open(id, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(()),
        Err(e) => return Err(failed(e.into())),
    };
    // Read after the pidfd is open: what has the right start time now is what the pidfd is of.
    if stat(pid).is_none_or(|stat| stat.start_time != start_time) {
        return Ok(());
    }
    match send_signal(pidfd.as_fd(), number) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        sent => sent.map_err(failed),
    }
}

/// The living processes of a cgroup and below, by pid.
fn processes(cgroup: &Path) -> Result<BTreeMap<i32, Stat>, Error> {
    let pids = cgroup::processes(cgroup)?;
    let known = pids.into_iter().filter_map(|pid| Some((pid, stat(pid)?)));
    Ok(known.filter(|(_, stat)| !stat.is_dead()).collect())
}

/// `root`, its session and all their descendants.
fn tree(root: i32, processes: &BTreeMap<i32, Stat>) -> BTreeSet<i32> {
    let mut tree: BTreeSet<i32> = processes
        .iter()
        .filter(|&(&pid, stat)| pid == root || stat.session == root)
        .map(|(&pid, _)| pid)
        .collect();
    tree.insert(root);
    loop {
        let children: Vec<i32> = processes
            .iter()
            .filter(|(pid, stat)| tree.contains(&stat.parent) && !tree.contains(pid))
            .map(|(&pid, _)| pid)
            .collect();
        if children.is_empty() {
            tree.retain(|pid| processes.contains_key(pid));
            return tree;
        }
        tree.extend(children);
    }
}

/// Reads /proc/pid/stat; `None` when there is no such process.
pub fn stat(pid: i32) -> Option<Stat> {
    let mut buffer = [0; Stat::LONGEST];
    let mut file = File::open(format!("/proc/{pid}/stat")).ok()?;
    let length = file.read(&mut buffer).ok()?;
    Stat::parse(&buffer[..length])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn process(parent: i32, session: i32) -> Stat {
        Stat {
            state: b'S',
            parent,
            session,
            start_time: 1,
        }
    }

    #[test]
    fn own_stat_is_read() {
        let pid = std::process::id() as i32;
        let stat = stat(pid).unwrap();
        assert_eq!(
            stat.parent,
            rustix::process::getppid().unwrap().as_raw_nonzero().get()
        );
        assert!(stat.start_time > 0);
    }

    /// The session of the test itself may be led from outside its PID namespace, and then is 0.
    #[test]
    fn a_session_is_read_of_its_leader() {
        let mut leader = std::process::Command::new("setsid")
            .args(["sh", "-c", "echo && read line"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = [0];
        leader
            .stdout
            .take()
            .unwrap()
            .read_exact(&mut started)
            .unwrap();
        let pid = leader.id() as i32;
        let session = stat(pid).unwrap().session;
        drop(leader.stdin.take());
        leader.wait().unwrap();
        assert_eq!(session, pid);
    }

    #[test]
    fn the_tree_is_the_session_and_whoever_descends_from_it() {
        let processes = BTreeMap::from([
            (1, process(0, 1)),    // the container's own
            (5, process(1, 1)),    // and its child
            (10, process(0, 10)),  // the root
            (11, process(10, 10)), // its child
            (12, process(11, 12)), // a grandchild with a session of its own
            (13, process(12, 12)), // and its child
            (14, process(1, 10)),  // orphaned, still of the session
            (15, process(14, 15)), // a child of that
        ]);
        assert_eq!(
            tree(10, &processes),
            BTreeSet::from([10, 11, 12, 13, 14, 15])
        );
        assert_eq!(tree(99, &processes), BTreeSet::new());
    }

    proptest! {
        #[test]
        fn a_tree_is_closed_under_having_children(
            parents in proptest::collection::vec((0i32..40, 0i32..40), 1..40),
            root in 0i32..40,
        ) {
            let processes: BTreeMap<i32, Stat> = parents
                .iter()
                .enumerate()
                .map(|(pid, &(parent, session))| (pid as i32, process(parent, session)))
                .collect();
            let tree = tree(root, &processes);
            for (pid, stat) in &processes {
                let inside = *pid == root
                    || stat.session == root
                    || tree.contains(&stat.parent)
                    || stat.parent == root;
                prop_assert_eq!(tree.contains(pid), inside);
            }
        }
    }
}
