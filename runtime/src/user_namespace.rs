//! User namespaces: making one with its mappings, what its ids are on the host, and how a child
//! is cloned inside of one.
//!
//! A process cannot be cloned into a user namespace that exists, and who joins one gives up its
//! privileges outside. So a helper is cloned first; it does what takes the host's privileges,
//! joins, clones the process as a sibling (`CLONE_PARENT`, with its cgroup and its namespaces,
//! which then belong to the user namespace) and ends:
//!
//! ```text
//!   caller ──clone3──> helper: oom_score_adj, hard limits, setns ──clone3(CLONE_PARENT)──> child
//!     └──────────────────────── child of the caller, born in its cgroup ─────────────────────┘
//! ```
//!
//! A child that has done its part is left to whoever reaps the caller's children: to wait for the
//! end of each would take a tenth of a millisecond.
//!
//! What must hold: no process of ours inside the namespace can be looked into before it executes
//! the command (it is not dumpable, CVE-2016-9962); the host's user 0 is nobody there.

mod belongings;
mod unmapped;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, set_dumpable_behavior,
    waitid,
};
use rustix::thread::{
    LinkNameSpaceType, move_into_link_name_space, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::child::{self, Fds, Status};
use crate::error::Doing;
use crate::namespace::Namespaces;
use crate::oci_spec::runtime::{LinuxIdMapping, Process, Spec};
use crate::report::{self, Report};
use crate::sys::clone::Child;
use crate::{Error, sys};

pub use belongings::Belongings;
pub use unmapped::Unmapped;

/// How ids inside of a user namespace read outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMappings {
    /// User ids.
    pub uid: Vec<LinuxIdMapping>,
    /// Group ids.
    pub gid: Vec<LinuxIdMapping>,
}

impl IdMappings {
    /// Those of a configuration; empty when it has no user namespace.
    pub fn of(spec: &Spec) -> Self {
        let linux = spec.linux().as_ref();
        let of = |list: Option<&Option<Vec<LinuxIdMapping>>>| list.cloned().flatten();
        Self {
            uid: of(linux.map(|linux| linux.uid_mappings())).unwrap_or_default(),
            gid: of(linux.map(|linux| linux.gid_mappings())).unwrap_or_default(),
        }
    }

    /// There is nothing in them.
    pub fn is_empty(&self) -> bool {
        self.uid.is_empty() && self.gid.is_empty()
    }

    /// The host's id of a user; `None` when the namespace does not have that user.
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        on_host(&self.uid, uid)
    }

    /// The host's id of a group; `None` when the namespace does not have that group.
    pub fn host_gid(&self, gid: u32) -> Option<u32> {
        on_host(&self.gid, gid)
    }

    /// The host's ids of the namespace's root.
    pub fn root(&self) -> Result<(Uid, Gid), Error> {
        let unmapped = |field: &str| {
            Error::invalid(field, "container id 0 is not mapped to an id of the host")
        };
        let uid = self
            .host_uid(0)
            .ok_or_else(|| unmapped("linux.uidMappings"))?;
        let gid = self
            .host_gid(0)
            .ok_or_else(|| unmapped("linux.gidMappings"))?;
        Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    /// Refuses what the kernel would refuse without saying which field.
    pub(crate) fn check(&self, field: &str) -> Result<(), Error> {
        check(&self.uid, &format!("{field}.uidMappings"))?;
        check(&self.gid, &format!("{field}.gidMappings"))
    }

    /// Refuses a process whose user or groups the namespace does not have.
    pub(crate) fn check_user(&self, process: &Process) -> Result<(), Error> {
        let user = process.user();
        let refused = |field: &str, id: u32| {
            Err(Error::invalid(
                format!("process.user.{field}"),
                format!("{id} is not mapped in the container's user namespace"),
            ))
        };
        if self.host_uid(user.uid()).is_none() {
            return refused("uid", user.uid());
        }
        if self.host_gid(user.gid()).is_none() {
            return refused("gid", user.gid());
        }
        let mut groups = user.additional_gids().iter().flatten();
        match groups.find(|gid| self.host_gid(**gid).is_none()) {
            Some(gid) => refused("additionalGids", *gid),
            None => Ok(()),
        }
    }
}

fn on_host(list: &[LinuxIdMapping], id: u32) -> Option<u32> {
    list.iter().find_map(|mapping| {
        let distance = id.checked_sub(mapping.container_id())?;
        (distance < mapping.size()).then(|| mapping.host_id().checked_add(distance))?
    })
}

fn check(list: &[LinuxIdMapping], field: &str) -> Result<(), Error> {
    if list.is_empty() {
        return Err(Error::invalid(field, "missing"));
    }
    let overlap = |a: u32, b: u32, one: &LinuxIdMapping, other: &LinuxIdMapping| {
        let (a, b) = (u64::from(a), u64::from(b));
        a < b + u64::from(other.size()) && b < a + u64::from(one.size())
    };
    for (index, one) in list.iter().enumerate() {
        let (inside, outside, size) = (one.container_id(), one.host_id(), one.size());
        let describe = format!("{inside} to {outside}, {size} ids");
        if size == 0 {
            return Err(Error::invalid(field, format!("{describe}: of no length")));
        }
        // The last of all numbers is no id.
        if inside.checked_add(size).is_none() || outside.checked_add(size).is_none() {
            return Err(Error::invalid(
                field,
                format!("{describe}: ends above 4294967294"),
            ));
        }
        let twice = list[..index].iter().any(|other| {
            overlap(inside, other.container_id(), one, other)
                || overlap(outside, other.host_id(), one, other)
        });
        if twice {
            return Err(Error::invalid(
                field,
                format!("{describe}: overlaps another of the mappings"),
            ));
        }
    }
    Ok(())
}

/// A user namespace, held open.
#[derive(Debug)]
pub struct UserNamespace {
    fd: OwnedFd,
    mappings: IdMappings,
}

impl UserNamespace {
    /// Makes one. Takes the privilege to map any id (CAP_SETUID and CAP_SETGID on the host).
    pub fn new(mappings: IdMappings) -> Result<Self, Error> {
        mappings.check("user namespace")?;
        let (made, nothing_more) = Unmapped::new(Namespaces::empty())?.map(mappings)?;
        drop(nothing_more);
        Ok(made)
    }

    /// Opens the one that a path names, which has these mappings.
    pub(crate) fn open(path: &Path, mappings: IdMappings) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .doing(|| format!("open user namespace {}", path.display()))?;
        Ok(Self { fd, mappings })
    }

    /// A path to it, good as long as this process holds it.
    pub fn path(&self) -> PathBuf {
        let fd = self.fd.as_raw_fd();
        format!("/proc/{}/fd/{fd}", std::process::id()).into()
    }

    /// Its mappings.
    pub fn mappings(&self) -> &IdMappings {
        &self.mappings
    }

    /// Moves the caller into it, for good.
    pub(crate) fn join(&self) -> Result<(), Error> {
        move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::User))
            .doing(|| "join the user namespace")
    }

    /// Does what only its root may do, in a child, which is otherwise in the caller's namespaces.
    pub fn as_root(&self, work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let (ours, theirs) = report::pair().doing(|| "make a socket pair")?;
        let status = Status(theirs);
        let child = sys::clone::clone3(Namespaces::empty(), None, || {
            child::run(&status, || {
                let none = Fds {
                    standard: None,
                    extra: &[],
                };
                child::set_apart(&status, &none, [self.fd.as_raw_fd()])?;
                self.join()?;
                become_root()?;
                work()?;
                status.say(&Report::Ready(None));
                sys::process::exit(0)
            })
        })
        .doing(|| "clone a process into a user namespace")?;
        drop(status);
        let said = next_report(ours.as_fd());
        reap(&child)?;
        match said? {
            Report::Ready(_) => Ok(()),
            Report::Failed(failure) => Err(Error::Child(failure)),
            _ => Err(Error::system(
                "work as root of a user namespace",
                Errno::SRCH,
            )),
        }
    }
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Becomes root of the user namespace that the caller is in, with no other groups, and nobody
/// who may be looked into: a change of user may have undone that.
pub(crate) fn become_root() -> Result<(), Error> {
    set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT))
        .and_then(|()| set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT))
        .doing(|| "become root of the user namespace (is container id 0 mapped?)")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "become undumpable")
}

/// A child to be cloned inside of a user namespace.
pub(crate) struct Inside<'a, Enter> {
    /// The two ends of the conversation with the child, by which a helper that fails tells why.
    pub(crate) ours: BorrowedFd<'a>,
    pub(crate) status: &'a Status,
    /// What the helper does; it must join the user namespace.
    pub(crate) enter: Enter,
    /// New namespaces of the child.
    pub(crate) namespaces: Namespaces,
    /// Its cgroup.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

impl<Enter: FnOnce() -> Result<(), Error>> Inside<'_, Enter> {
    /// Clones the child, which runs `body` inside, and is still the host's user 0: it has to
    /// [`become_root`]. The caller is its parent.
    pub(crate) fn clone(self, body: impl FnOnce()) -> Result<Child, Error> {
        let (told, tell) = pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe")?;
        let helper = sys::clone::clone3(Namespaces::empty(), None, || {
            child::run(self.status, || {
                (self.enter)()?;
                let pid = sys::clone::sibling(self.namespaces, self.cgroup, body)
                    .doing(|| "clone a process in its user namespace")?;
                // Whose end of the conversation is now the only one: when it is closed, the
                // command has been executed.
                sys::fd::close_all_but(3, &mut [tell.as_raw_fd()])
                    .doing(|| "close inherited descriptors")?;
                rustix::io::write(&tell, &pid.to_ne_bytes())
                    .doing(|| "name the process in its user namespace")?;
                sys::process::exit(0)
            })
        })
        .doing(|| "clone a process on its way into a user namespace")?;
        drop(tell);
        let mut pid = [0; size_of::<i32>()];
        let read = retry_on_intr(|| rustix::io::read(&told, &mut pid))
            .doing(|| "hear of the process in its user namespace")?;
        if read != pid.len() {
            reap(&helper)?;
            return Err(helper_failed(self.ours)?);
        }
        open_child(i32::from_ne_bytes(pid))
    }
}

/// Why a helper that has ended has made no child.
pub(crate) fn helper_failed(ours: BorrowedFd<'_>) -> Result<Error, Error> {
    // What it said is there; our own copy of its end is, too, so that there is no end of file to
    // wait for.
    let said = report::receive(ours).doing(|| "hear from a child")?;
    Ok(match said {
        Some(Report::Failed(failure)) => Error::Child(failure),
        _ => Error::system("enter the container's namespaces: the helper", Errno::SRCH),
    })
}

/// A child that a helper has made: ours and not reaped, so that nobody else can have the number.
pub(crate) fn open_child(pid: i32) -> Result<Child, Error> {
    let pidfd = Pid::from_raw(pid)
        .ok_or(Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .doing(|| format!("open process {pid}"))?;
    Ok(Child { pid, pidfd })
}

/// Waits for the end of a child.
pub(crate) fn reap(child: &Child) -> Result<(), Error> {
    retry_on_intr(|| waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED))
        .doing(|| format!("wait for process {}", child.pid))?;
    Ok(())
}

/// Waits for what a child has to say.
pub(crate) fn next_report(socket: BorrowedFd<'_>) -> Result<Report, Error> {
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::system("poll", e)),
        }
        if let Some(report) = report::receive(socket).doing(|| "hear from a child")? {
            return Ok(report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci_spec::runtime::LinuxIdMappingBuilder;

    fn mapping(container: u32, host: u32, size: u32) -> LinuxIdMapping {
        LinuxIdMappingBuilder::default()
            .container_id(container)
            .host_id(host)
            .size(size)
            .build()
            .unwrap()
    }

    fn both(list: &[LinuxIdMapping]) -> IdMappings {
        IdMappings {
            uid: list.to_vec(),
            gid: list.to_vec(),
        }
    }

    #[test]
    fn ids_are_found_on_the_host() {
        let ids = both(&[mapping(0, 100_000, 1000), mapping(5000, 7, 1)]);
        assert_eq!(ids.host_uid(0), Some(100_000));
        assert_eq!(ids.host_gid(999), Some(100_999));
        assert_eq!(ids.host_uid(1000), None);
        assert_eq!(ids.host_uid(5000), Some(7));
        assert_eq!(ids.host_uid(5001), None);
        let root = ids.root().unwrap();
        assert_eq!((root.0.as_raw(), root.1.as_raw()), (100_000, 100_000));
        assert!(both(&[mapping(1, 100_000, 1000)]).root().is_err());
    }

    #[test]
    fn mappings_that_cannot_be_are_refused_by_field() {
        let good = [mapping(0, 100_000, 65_536), mapping(65_536, 1, 1)];
        both(&good).check("linux").unwrap();
        for (bad, word) in [
            (vec![], "missing"),
            (vec![mapping(0, 1, 0)], "no length"),
            (vec![mapping(0, u32::MAX, 1)], "above"),
            (vec![mapping(u32::MAX, 0, 1)], "above"),
            (vec![mapping(0, 10, 10), mapping(9, 100, 1)], "overlaps"),
            (vec![mapping(0, 10, 10), mapping(10, 19, 1)], "overlaps"),
        ] {
            let mut ids = both(&good);
            ids.gid = bad;
            let error = ids.check("linux").unwrap_err().to_string();
            assert!(error.contains("linux.gidMappings"), "{error}");
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_user_that_is_not_mapped_is_named() {
        let ids = both(&[mapping(0, 100_000, 10)]);
        let process = |user: serde_json::Value| -> Process {
            let tree = serde_json::json!({"user": user, "cwd": "/", "args": ["x"]});
            serde_json::from_value(tree).unwrap()
        };
        let good = serde_json::json!({"uid": 9, "gid": 9, "additionalGids": [0, 9]});
        ids.check_user(&process(good)).unwrap();
        for (user, field) in [
            (serde_json::json!({"uid": 10, "gid": 0}), "process.user.uid"),
            (serde_json::json!({"uid": 0, "gid": 10}), "process.user.gid"),
            (
                serde_json::json!({"uid": 0, "gid": 0, "additionalGids": [3, 10]}),
                "process.user.additionalGids",
            ),
        ] {
            let error = ids.check_user(&process(user)).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
            assert!(error.contains("10 is not mapped"), "{error}");
        }
    }
}
