//! A user namespace that is made before its ids are known, with the namespaces that belong to it.
//!
//! Its first process does nothing but be there: the mapping of a namespace is written to a file
//! of a process in it. What must hold: that process ends with the channel to it, whatever becomes
//! of the one that made it; nothing is in the namespace besides until it has its mappings.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::belongings::Belongings;
use super::{IdMappings, UserNamespace};
use crate::child::{self, Fds, Status};
use crate::error::Doing;
use crate::namespace::Namespaces;
use crate::oci_spec::runtime::LinuxIdMapping;
use crate::report::{self, Word};
use crate::{Error, sys};

/// A user namespace in which no id means anything yet.
#[derive(Debug)]
pub struct Unmapped {
    fd: OwnedFd,
    belongings: Belongings,
    first: i32,
}

impl Unmapped {
    /// Makes one together with network, IPC and UTS namespaces that belong to it, into which the
    /// caller moves; its own user namespace the caller keeps, and with it the right to do anything
    /// there.
    pub fn new(kinds: Namespaces) -> Result<Self, Error> {
        let (ours, theirs) = report::pair().doing(|| "make a socket pair")?;
        let status = Status(theirs);
        let first = sys::clone::clone3(Namespaces::NEWUSER | kinds, None, || {
            child::run(&status, || {
                let none = Fds {
                    standard: None,
                    extra: &[],
                };
                child::set_apart(&status, &none, [])?;
                status.hear(Word::Start);
                sys::process::exit(0)
            })
        })
        .doing(|| "make a user namespace (is the sysctl user.max_user_namespaces high enough?)")?;
        drop(status);
        let path = format!("/proc/{}/ns/user", first.pid);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).doing(|| format!("open {path}"))?;
        if !kinds.is_empty() {
            let kinds = ThreadNameSpaceType::from_bits_retain(kinds.bits());
            move_into_thread_name_spaces(first.pidfd.as_fd(), kinds)
                .doing(|| "join the namespaces of a user namespace")?;
        }
        Ok(Self {
            fd,
            belongings: Belongings::find(kinds, ours)?,
            first: first.pid,
        })
    }

    /// Gives it its ids. Takes the privilege to map any id (CAP_SETUID and CAP_SETGID on the host).
    /// What belongs to its root in the other namespaces remains to be given.
    pub fn map(self, mappings: IdMappings) -> Result<(UserNamespace, Belongings), Error> {
        mappings.check("user namespace")?;
        if self.belongings.are_there() {
            mappings.root()?;
        }
        write_map(self.first, "uid_map", &mappings.uid)?;
        write_map(self.first, "gid_map", &mappings.gid)?;
        let user = UserNamespace {
            fd: self.fd,
            mappings,
        };
        Ok((user, self.belongings))
    }
}

/// One write for all lines, as the kernel wants it.
fn write_map(pid: i32, file: &str, list: &[LinuxIdMapping]) -> Result<(), Error> {
    let line = |m: &LinuxIdMapping| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size());
    let text: String = list.iter().map(line).collect();
    let path = format!("/proc/{pid}/{file}");
    rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|map| rustix::io::write(map, text.as_bytes()))
        .doing(|| format!("map ids: write {:?} to {path}", text.trim_end()))?;
    Ok(())
}
