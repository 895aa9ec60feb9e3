//! Creating a container: everything up to the point before exec.

mod build;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use crate::child::{self, Fds, Status};
use crate::error::Doing;
use crate::hook::{Inside, Outside};
use crate::namespace::{self, Handle, Namespaces};
use crate::oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Process, Spec};
use crate::rootfs::{self, Rootfs};
use crate::shm::Shm;
use crate::sys::clone::Child;
use crate::{Error, Init, Stdio, cgroup, mount, report, sys, validate};

/// A container to create.
#[derive(Debug)]
pub struct Create<'a> {
    /// Container id, for messages and hooks.
    pub id: &'a str,
    /// The runtime-spec configuration. `root.path` is not used, [`Self::rootfs`] is;
    /// `linux.cgroupsPath` is not used, [`Self::cgroup`] is.
    pub spec: &'a Spec,
    /// Root file system.
    pub rootfs: &'a Rootfs,
    /// Absolute directory under the cgroup v2 mount, made with missing parents, limits from
    /// `linux.resources`.
    pub cgroup: &'a Path,
    /// Namespaces that the caller itself is in and the container shares: those with a path in
    /// the configuration that need not be joined.
    pub inherit: Namespaces,
    /// Attached where the configuration has a tmpfs at /dev/shm, which is private to the
    /// container otherwise.
    pub shm: Option<&'a Shm>,
    /// Join this PID namespace (a pidfd of a process in it, or an open /proc/pid/ns/pid),
    /// whatever the configuration says.
    pub pid_namespace: Option<BorrowedFd<'a>>,
    /// Descriptors 0, 1 and 2.
    pub stdio: Stdio<'a>,
    /// Directory of the configuration, told to hooks; hooks are refused without.
    pub bundle: Option<&'a Path>,
    /// A listening `SOCK_SEQPACKET` socket at which the built container waits for another
    /// process to [`Init::attach`], when the caller will not live to call [`Init::start`].
    pub gate: Option<BorrowedFd<'a>>,
    /// Descriptors 3, 4, ... of the command.
    pub extra_fds: &'a [BorrowedFd<'a>],
}

impl<'a> Create<'a> {
    /// With nothing shared but what the configuration says.
    pub fn new(
        id: &'a str,
        spec: &'a Spec,
        rootfs: &'a Rootfs,
        cgroup: &'a Path,
        stdio: Stdio<'a>,
    ) -> Self {
        Self {
            id,
            spec,
            rootfs,
            cgroup,
            inherit: Namespaces::empty(),
            shm: None,
            pid_namespace: None,
            stdio,
            bundle: None,
            gate: None,
            extra_fds: &[],
        }
    }
}

/// What the parent opened for the child.
struct Plan<'a> {
    create: &'a Create<'a>,
    process: &'a Process,
    mounts: Vec<mount::Mount>,
    /// Namespaces to be made by clone3, and the cgroup namespace, which cannot.
    new: Namespaces,
    /// Namespaces to be joined by the child.
    join: Vec<Handle>,
    inside: Option<Inside>,
    /// Hooks will run outside: say when.
    outside: bool,
}

/// Makes the cgroup with its limits and clones the child, which builds the container while
/// this returns. On error nothing is left but the cgroup's parents.
pub fn create(create: Create<'_>) -> Result<Init, Error> {
    validate::spec(create.spec)?;
    let (inside, outside) = hooks(&create)?;
    let (new, mut join) = namespaces(&create)?;
    // A PID namespace takes in children only, so it is the caller that goes there.
    let pid = join
        .iter()
        .position(|handle| handle.kind == Namespaces::NEWPID);
    let pid = pid.map(|at| join.swap_remove(at));
    let process = create.spec.process().as_ref();
    let root = rootfs::prepare(create.rootfs)?;
    let plan = Plan {
        create: &create,
        process: process.ok_or_else(|| Error::invalid("process", "missing"))?,
        mounts: mount::prepare(
            create.spec.mounts().as_deref().unwrap_or_default(),
            create.shm,
        )?,
        new,
        join,
        inside,
        outside: outside.is_some(),
    };
    let limits = create
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    let none = LinuxResources::default();
    let cgroup = cgroup::make(create.cgroup, Some(limits.unwrap_or(&none)))?;
    let (ours, theirs) = report::pair().doing(|| "make a socket pair")?;
    let status = Status(theirs);
    let pid_namespace = create
        .pid_namespace
        .or(pid.as_ref().map(|handle| handle.fd.as_fd()));
    let fds = fds(&create.stdio, create.extra_fds);
    let child = in_pid_namespace(pid_namespace, || {
        let new = plan.new - Namespaces::NEWCGROUP;
        sys::clone::clone3(new, Some(cgroup.as_fd()), || {
            child::run(&status, || plan.build(root, &fds, &status))
        })
        .doing(|| {
            format!(
                "clone container {} into {}",
                create.id,
                create.cgroup.display()
            )
        })
    });
    match child {
        Ok(child) => Ok(Init::created(child, ours, outside)),
        Err(error) => {
            let _ = cgroup::remove(create.cgroup);
            Err(error)
        }
    }
}

fn hooks(create: &Create<'_>) -> Result<(Option<Inside>, Option<Outside>), Error> {
    match (create.spec.hooks(), create.bundle) {
        (None, _) => Ok((None, None)),
        (Some(_), Some(bundle)) => Ok((
            Inside::of(create.id, create.spec, bundle)?,
            Outside::of(create.id, create.spec, bundle)?,
        )),
        (Some(_), None) => Err(Error::invalid("hooks", "not supported without a bundle")),
    }
}

/// Kinds to make, and those to join that the caller is not in.
fn namespaces(create: &Create<'_>) -> Result<(Namespaces, Vec<Handle>), Error> {
    let mut new = Namespaces::empty();
    let mut join = Vec::new();
    let linux = create.spec.linux().as_ref();
    for namespace in linux
        .and_then(|linux| linux.namespaces().as_ref())
        .into_iter()
        .flatten()
    {
        let kind = validate::flag(namespace);
        if namespace.typ() == LinuxNamespaceType::Pid && create.pid_namespace.is_some() {
            continue;
        }
        match namespace.path() {
            None => new |= kind,
            Some(_) if create.inherit.contains(kind) => {}
            Some(path) => join.push(Handle::open(kind, path)?),
        }
    }
    Ok((new, join))
}

/// The child's view of the descriptors that the caller gives.
pub(crate) fn fds<'a>(stdio: &Stdio<'a>, extra: &'a [BorrowedFd<'a>]) -> Fds<'a> {
    let standard = match stdio {
        Stdio::Fds(fds) => Some(*fds),
        Stdio::Terminal => None,
    };
    Fds { standard, extra }
}

/// Clones with the PID namespace for children set to that of `target`, and sets it back.
pub(crate) fn in_pid_namespace(
    target: Option<BorrowedFd<'_>>,
    clone: impl FnOnce() -> Result<Child, Error>,
) -> Result<Child, Error> {
    let Some(target) = target else { return clone() };
    let own = namespace::own_pid()?;
    // A pidfd takes a set of kinds, a namespace file one kind; the numbers are the same.
    move_into_thread_name_spaces(target, ThreadNameSpaceType::PROCESS_ID)
        .doing(|| "enter the PID namespace (has the container ended?)")?;
    let child = clone();
    let back = move_into_link_name_space(own, Some(LinkNameSpaceType::ProcessID))
        .doing(|| "return to the own PID namespace");
    match (child, back) {
        (Ok(child), Ok(())) => Ok(child),
        (Err(error), _) => Err(error),
        (Ok(child), Err(error)) => {
            let kill = rustix::process::Signal::KILL;
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, kill);
            Err(error)
        }
    }
}
