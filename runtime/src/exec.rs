//! A further process in a running container.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::cgroup::Cgroup;
use crate::child::{self, Fds, Launch, Status};
use crate::error::Doing;
use crate::label::Labels;
use crate::namespace::Namespaces;
use crate::oci_spec::runtime::Process;
use crate::report::Report;
use crate::seccomp::Filter;
use crate::user_namespace::{self, IdMappings};
use crate::{
    Error, Init, Stdio, cgroup, console, create, credential, process, report, sys, unseen, validate,
};

/// Kinds that the containers of a pod share.
const PODS: ThreadNameSpaceType = ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
    .union(ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME)
    .union(ThreadNameSpaceType::NETWORK);
/// What is attempted when namespaces are joined.
const JOINING: fn() -> &'static str = || "join the container's namespaces (has it ended?)";

/// A process to run in a container.
#[derive(Debug)]
pub struct Exec<'a> {
    /// Complete: user, capabilities, environment, working directory, arguments.
    pub process: &'a Process,
    /// Pidfd of the container's first process; its namespaces are joined.
    pub container: BorrowedFd<'a>,
    /// The mappings of the container's user namespace, which is joined; `None` without one.
    pub user_namespace: Option<&'a IdMappings>,
    /// The container's cgroup directory.
    pub cgroup: &'a Path,
    /// Descriptors 0, 1 and 2.
    pub stdio: Stdio<'a>,
    /// The container's seccomp filter.
    pub seccomp: Option<&'a Filter>,
    /// Descriptors 3, 4, ... of the command.
    pub extra_fds: &'a [BorrowedFd<'a>],
    /// There may be others in the container's PID namespace who [`may trace`](crate::may_trace);
    /// whether this process may is looked up in its capabilities.
    pub peers_may_trace: bool,
}

/// How the child gets where it is to be.
#[derive(Clone, Copy)]
enum Way {
    /// At once: what it has until it has joined everything nobody in there may look at.
    Direct,
    /// With a helper that joins the user namespace, as `user_namespace` draws it.
    UserNamespace,
    /// With a helper that has joined all but the cgroup namespace, as `unseen` draws it.
    Unseen,
}

impl<'a> Exec<'a> {
    /// With no descriptors but the first three.
    pub fn new(
        process: &'a Process,
        container: BorrowedFd<'a>,
        cgroup: &'a Path,
        stdio: Stdio<'a>,
    ) -> Self {
        Self {
            process,
            container,
            user_namespace: None,
            cgroup,
            stdio,
            seccomp: None,
            extra_fds: &[],
            peers_may_trace: false,
        }
    }

    /// Whether the child asks its parent for nothing on the way: its progress can be looked at when
    /// it has ended.
    pub fn is_silent(&self) -> bool {
        let listens = self.seccomp.is_some_and(Filter::has_listener);
        matches!(self.stdio, Stdio::Fds(_)) && !listens
    }

    fn way(&self) -> Way {
        match self.user_namespace {
            Some(_) => Way::UserNamespace,
            None if self.peers_may_trace || unseen::may_trace(self.process) => Way::Unseen,
            None => Way::Direct,
        }
    }
}

/// Clones the child into the container's cgroup, or into that of its first process where that is
/// further down and no other can have processes, and into its PID namespace. It joins the rest and
/// executes at once, without waiting for [`Init::start`]: the first progress is `Running` or
/// `Failed`.
pub fn exec(exec: Exec<'_>) -> Result<Init, Error> {
    validate::process(exec.process)?;
    if let Some(mappings) = exec.user_namespace {
        mappings.check_user(exec.process)?;
    }
    let cgroup = cgroup::open(exec.cgroup)?;
    match start(&exec, &cgroup) {
        // The container manages cgroups below its own, which then may have no processes itself:
        // its first process, too, is further down.
        Err(error) if error.errno() == Some(libc::EBUSY) => {
            match cgroup::of_process(process::of(exec.container)?, exec.cgroup)? {
                Some(inner) => start(&exec, &inner),
                None => Err(error),
            }
        }
        done => done,
    }
}

fn start(exec: &Exec<'_>, cgroup: &Cgroup) -> Result<Init, Error> {
    let (ours, theirs) = report::pair().doing(|| "make a socket pair")?;
    let status = Status(theirs);
    let fds = create::fds(&exec.stdio, exec.extra_fds);
    let body = || child::run(&status, || in_child(exec, &fds, &status));
    let child = match exec.way() {
        Way::UserNamespace => {
            let inside = user_namespace::Inside {
                ours: ours.as_fd(),
                status: &status,
                enter: || enter(exec),
                namespaces: Namespaces::empty(),
                cgroup: Some(cgroup.as_fd()),
            };
            inside.clone(body)?
        }
        Way::Unseen => {
            let cgroup = unseen::view(cgroup.as_fd())?;
            let enter = || enter_unseen(exec, &fds, &status, cgroup.as_fd());
            unseen::clone((ours.as_fd(), &status), enter, cgroup.as_fd(), body)?
        }
        Way::Direct => create::in_pid_namespace(Some(exec.container), || {
            sys::clone::clone3(Namespaces::empty(), Some(cgroup.as_fd()), body)
                .doing(|| format!("clone a process into {}", cgroup.path().display()))
        })?,
    };
    Ok(Init::executing(child, ours))
}

/// What the helper does on the way into the container's user namespace.
fn enter(exec: &Exec<'_>) -> Result<(), Error> {
    child::set_oom_score(exec.process)?;
    credential::raise_limits(exec.process.rlimits().as_deref().unwrap_or_default())?;
    // These may be the host's, where nobody from a user namespace can go.
    let kinds = ThreadNameSpaceType::USER | ThreadNameSpaceType::PROCESS_ID | PODS;
    move_into_thread_name_spaces(exec.container, kinds)
        .doing(|| "join the container's user namespace (has it ended?)")
}

/// What the helper does on the way into a container that has no user namespace: nothing of the host
/// is left, but the cgroup namespace, to be joined in the container's cgroup.
fn enter_unseen(
    exec: &Exec<'_>,
    fds: &Fds<'_>,
    status: &Status,
    cgroup: BorrowedFd<'_>,
) -> Result<(), Error> {
    child::set_oom_score(exec.process)?;
    // A child has its parent's.
    Labels::open(exec.process)?.apply()?;
    let needed = [exec.container, cgroup].map(|fd| fd.as_raw_fd());
    child::set_apart(status, fds, needed)?;
    child::replace_standard(fds, exec.container)?;
    let kinds = PODS | ThreadNameSpaceType::PROCESS_ID | ThreadNameSpaceType::MOUNT;
    move_into_thread_name_spaces(exec.container, kinds).doing(JOINING)
}

fn in_child(exec: &Exec<'_>, fds: &Fds<'_>, status: &Status) -> Result<Infallible, Error> {
    child::set_apart(status, fds, [exec.container.as_raw_fd()])?;
    let labels = match exec.way() {
        Way::Direct => {
            child::set_oom_score(exec.process)?;
            Labels::open(exec.process)?
        }
        Way::UserNamespace => {
            user_namespace::become_root()?;
            Labels::open(exec.process)?
        }
        Way::Unseen => Labels::default(),
    };
    join_the_rest(exec).doing(JOINING)?;
    // Joining the mount namespace has made the container's root the working directory.
    let root = rustix::fs::CWD;
    let launch = Launch::prepare(root, exec.process, labels, exec.seccomp)?;
    let console = match exec.stdio {
        Stdio::Terminal => Some(console::open(root, exec.process)?),
        Stdio::Fds(_) => None,
    };
    if let Some(console) = &console {
        let master = console
            .master
            .try_clone()
            .doing(|| "duplicate the terminal")?;
        status.say(&Report::Console(master));
    }
    child::arrange(fds, console.as_ref(), exec.process)?;
    launch.become_user(exec.process, status)?;
    Err(launch.execute())
}

/// What can be joined only in the container's cgroup, or, for the mount namespace, by one who needs
/// no path of the host any more.
fn join_the_rest(exec: &Exec<'_>) -> rustix::io::Result<()> {
    let (mount, cgroup) = (
        ThreadNameSpaceType::MOUNT,
        ThreadNameSpaceType::CONTROL_GROUP,
    );
    let join = |kinds| move_into_thread_name_spaces(exec.container, kinds);
    match exec.way() {
        Way::Direct => join(mount | cgroup | PODS),
        Way::Unseen => join(cgroup),
        Way::UserNamespace => match join(mount | cgroup) {
            // A privileged container is in the host's cgroup namespace, and so is this process.
            Err(Errno::PERM) => join(mount),
            done => done,
        },
    }
}
