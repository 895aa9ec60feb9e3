//! How many files may be open: as many as the system allows for the daemon, and for what it starts
//! as many as the daemon was started with.
//!
//! A daemon holds a few descriptors for each pod and each exec. A container whose specification
//! does not limit its files inherits its shim's limit, and there a large soft one is a surprise:
//! programs close every possible descriptor one by one, or size tables by it. So whoever starts the
//! daemon decides for both: the hard limit is what it uses, the soft one is what it passes on.

use std::io;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// The limit that processes of this daemon are given.
#[derive(Debug, Clone)]
pub struct OpenFiles(Rlimit);

impl OpenFiles {
    /// Raises this process's soft limit to the hard one, and keeps what it was.
    pub fn raise() -> io::Result<Self> {
        let before = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: before.maximum,
            ..before
        };
        setrlimit(Resource::Nofile, raised)?;
        Ok(Self(before))
    }

    /// Gives a process that has just been started the limit from before.
    pub fn give(&self, pid: i32) -> io::Result<()> {
        prlimit(Pid::from_raw(pid), Resource::Nofile, self.0)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_gets_the_limit_from_before() {
        let before = getrlimit(Resource::Nofile);
        let files = OpenFiles::raise().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        files.give(i32::try_from(child.id()).unwrap()).unwrap();
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = line
            .and_then(|line| line.split_ascii_whitespace().nth(3))
            .unwrap();
        assert_eq!(soft.parse().ok(), before.current, "{soft}");
        setrlimit(Resource::Nofile, before).unwrap();
    }
}
