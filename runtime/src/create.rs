//! Creating a container: everything up to the point before exec.

mod build;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use crate::child::{self, Fds, Status};
use crate::error::Doing;
use crate::hook::{Inside, Outside};
use crate::mount::{ImageVolume, MountLabel};
use crate::namespace::{self, Handle, Namespaces};
use crate::oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Process, Spec};
use crate::rootfs::{self, Rootfs};
use crate::seccomp::Filter;
use crate::shm::Shm;
use crate::sys::clone::Child;
use crate::user_namespace::{self, IdMappings, UserNamespace};
use crate::{Error, Init, Stdio, cgroup, credential, device, mount, report, sys, validate};

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
    /// What the configuration's mounts of type `image` show.
    pub images: &'a [ImageVolume],
    /// Join this PID namespace (a pidfd of a process in it, or an open /proc/pid/ns/pid),
    /// whatever the configuration says.
    pub pid_namespace: Option<BorrowedFd<'a>>,
    /// Join this user namespace, with the mappings of the configuration, instead of making one.
    pub user_namespace: Option<&'a UserNamespace>,
    /// Descriptors 0, 1 and 2.
    pub stdio: Stdio<'a>,
    /// Directory of the configuration, told to hooks; hooks are refused without.
    pub bundle: Option<&'a Path>,
    /// A listening `SOCK_SEQPACKET` socket at which the built container waits for another
    /// process to [`Init::attach`], when the caller will not live to call [`Init::start`].
    pub gate: Option<BorrowedFd<'a>>,
    /// The filter that `linux.seccomp` has become; a configuration that has one is refused
    /// without.
    pub seccomp: Option<&'a Filter>,
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
            images: &[],
            pid_namespace: None,
            user_namespace: None,
            stdio,
            bundle: None,
            gate: None,
            seccomp: None,
            extra_fds: &[],
        }
    }
}

/// How long the caller's part of a creation took.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Root file system and mounts, as far as they are made outside of the container.
    pub rootfs: Duration,
    /// The cgroup with its limits.
    pub cgroup: Duration,
    /// The child with its namespaces.
    pub clone: Duration,
    /// When the child was there.
    pub cloned: Instant,
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
    /// The child is in the container's user namespace from its first instruction.
    in_user_namespace: bool,
    inside: Option<Inside>,
    /// Hooks will run outside: say when.
    outside: bool,
}

/// Makes the cgroup with its limits and clones the child, which builds the container while
/// this returns. On error nothing is left but the cgroup's parents.
pub fn create(create: Create<'_>) -> Result<Init, Error> {
    validate::spec(create.spec)?;
    validate::seccomp(create.spec, create.seccomp)?;
    let (inside, outside) = hooks(&create)?;
    let made = user_namespace(&create)?;
    let user = create.user_namespace.or(made.as_ref());
    let (new, mut join) = namespaces(&create)?;
    // A PID namespace takes in children only, so it is the caller that goes there, or the helper
    // with everything else that it joins.
    let pid = join
        .iter()
        .position(|handle| handle.kind == Namespaces::NEWPID);
    let pid = pid.map(|at| join.swap_remove(at));
    let by_helper = match user {
        Some(_) => std::mem::take(&mut join),
        None => Vec::new(),
    };
    let process = create.spec.process().as_ref();
    let process = process.ok_or_else(|| Error::invalid("process", "missing"))?;
    let began = Instant::now();
    // Closed at the end of this, while the child builds.
    let mut served = Vec::new();
    let label = MountLabel::of(create.spec.linux().as_ref());
    let root = rootfs::prepare(create.rootfs, user, label, &mut served)?;
    let mut mounts = mount::prepare(
        create.spec.mounts().as_deref().unwrap_or_default(),
        create.shm,
        create.images,
        user,
        label,
        &mut served,
    )?;
    if let Some(user) = user {
        let linux = create.spec.linux().as_ref();
        let devices = linux.and_then(|linux| linux.devices().as_deref());
        device::outside::prepare(&mut mounts, devices.unwrap_or_default(), user, label)?;
    }
    let plan = Plan {
        create: &create,
        process,
        mounts,
        new,
        in_user_namespace: user.is_some(),
        join,
        inside,
        outside: outside.is_some(),
    };
    let mounted = Instant::now();
    let limits = create
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    let none = LinuxResources::default();
    let (ours, theirs) = report::pair().doing(|| "make a socket pair")?;
    let status = Status(theirs);
    // What fails after this has to take it away again.
    let cgroup = cgroup::make(create.cgroup, Some(limits.unwrap_or(&none)))?;
    let limited = Instant::now();
    let pid_namespace = create
        .pid_namespace
        .or(pid.as_ref().map(|handle| handle.fd.as_fd()));
    let fds = fds(&create.stdio, create.extra_fds);
    let cloning = || {
        format!(
            "clone container {} into {}",
            create.id,
            create.cgroup.display()
        )
    };
    let child = match user {
        Some(user) => {
            let inside = user_namespace::Inside {
                ours: ours.as_fd(),
                status: &status,
                enter: || enter(user, process, &by_helper, pid_namespace),
                namespaces: new & (Namespaces::NEWNS | Namespaces::NEWPID),
                cgroup: Some(cgroup.as_fd()),
            };
            inside.clone(|| child::run(&status, || plan.build(root, &fds, &status)))
        }
        None => in_pid_namespace(pid_namespace, || {
            sys::clone::clone3(new - Namespaces::NEWCGROUP, Some(cgroup.as_fd()), || {
                child::run(&status, || plan.build(root, &fds, &status))
            })
            .doing(cloning)
        }),
    };
    match child {
        Ok(child) => {
            let cloned = Instant::now();
            let timing = Timing {
                rootfs: mounted - began,
                cgroup: limited - mounted,
                clone: cloned - limited,
                cloned,
            };
            Ok(Init::created(child, ours, outside, timing))
        }
        Err(error) => {
            let _ = cgroup::remove(create.cgroup);
            Err(error)
        }
    }
}

/// The user namespace of the configuration, unless the caller has it already.
fn user_namespace(create: &Create<'_>) -> Result<Option<UserNamespace>, Error> {
    let mappings = IdMappings::of(create.spec);
    let linux = create.spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    let entry = namespaces
        .into_iter()
        .flatten()
        .find(|namespace| namespace.typ() == LinuxNamespaceType::User);
    match (entry, create.user_namespace) {
        (None, None) => Ok(None),
        (Some(_), Some(given)) if *given.mappings() == mappings => Ok(None),
        (_, Some(_)) => Err(Error::invalid(
            "linux.uidMappings",
            "the container is to be in a user namespace with other mappings",
        )),
        (Some(entry), None) => match entry.path() {
            None => UserNamespace::new(mappings).map(Some),
            Some(path) => UserNamespace::open(path, mappings).map(Some),
        },
    }
}

/// What the helper does on the way into a user namespace: first what takes the host's privileges.
fn enter(
    user: &UserNamespace,
    process: &Process,
    join: &[Handle],
    pid_namespace: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    child::set_oom_score(process)?;
    credential::raise_limits(process.rlimits().as_deref().unwrap_or_default())?;
    join.iter().try_for_each(Handle::join)?;
    if let Some(target) = pid_namespace {
        enter_pid_namespace(target)?;
    }
    user.join()
}

/// A pidfd takes a set of kinds, a namespace file one kind; the numbers are the same.
fn enter_pid_namespace(target: BorrowedFd<'_>) -> Result<(), Error> {
    move_into_thread_name_spaces(target, ThreadNameSpaceType::PROCESS_ID)
        .doing(|| "enter the PID namespace (has the container ended?)")
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
        if kind == Namespaces::NEWUSER {
            continue;
        }
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
    enter_pid_namespace(target)?;
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
