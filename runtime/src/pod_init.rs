//! The first process of a PID namespace that the containers of a pod share: it reaps what is
//! orphaned there and does nothing else. Told to end from outside (systemd stops a scope by SIGTERM
//! to all its processes, and waits 90 s for the last), it does so once it is alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::process::{
    DumpableBehavior, Signal, WaitOptions, set_dumpable_behavior, set_parent_process_death_signal,
    wait,
};

use crate::child::Status;
use crate::error::Doing;
use crate::namespace::Namespaces;
use crate::sys::clone::Child;
use crate::sys::process::Came;
use crate::user_namespace::{self, UserNamespace};
use crate::{Error, cgroup, report, sys};

/// A running pod init.
#[derive(Debug)]
pub struct PodInit {
    /// Host pid.
    pub pid: i32,
    /// Its pidfd; serves as [`crate::Create::pid_namespace`].
    pub pidfd: OwnedFd,
}

/// Clones a pod init into a new PID namespace, which belongs to the user namespace if there is
/// one, and, if given, a cgroup (made when missing). It is named `skiff-init`, holds no
/// descriptors and ignores signals from inside; SIGKILL from the caller ends it and with it the
/// namespace. It can be reaped only after the caller has reaped its own children in there.
///
/// On error nothing is left but the cgroup's parents.
pub fn spawn(cgroup: Option<&Path>, user: Option<&UserNamespace>) -> Result<PodInit, Error> {
    let made = cgroup.map(|path| cgroup::make(path, None)).transpose()?;
    let child = clone(made.as_ref().map(|cgroup| cgroup.as_fd()), user);
    if let (Err(_), Some(path)) = (&child, cgroup) {
        let _ = cgroup::remove(path);
    }
    let Child { pid, pidfd } = child?;
    Ok(PodInit { pid, pidfd })
}

fn clone(dir: Option<BorrowedFd<'_>>, user: Option<&UserNamespace>) -> Result<Child, Error> {
    match user {
        None => sys::clone::clone3(Namespaces::NEWPID, dir, || run())
            .doing(|| "clone the init of a pod"),
        Some(user) => {
            let (ours, theirs) = report::pair().doing(|| "make a socket pair")?;
            let inside = user_namespace::Inside {
                ours: ours.as_fd(),
                status: &Status(theirs),
                enter: || user.join(),
                namespaces: Namespaces::NEWPID,
                cgroup: dir,
            };
            inside.clone(|| {
                let _ = user_namespace::become_root();
                run()
            })
        }
    }
}

/// How often it looks whether it is alone, once it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Every signal is blocked, so none but SIGKILL and SIGSTOP of the caller does anything; SIGCHLD
/// and SIGTERM are waited for, and the latter means nothing from inside. It does not outlive the
/// caller.
fn run() -> ! {
    sys::process::block_signals();
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = rustix::thread::set_name(c"skiff-init");
    let _ = rustix::process::chdir("/");
    let _ = sys::fd::close_all_but(0, &mut []);
    let mut patience = None;
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if patience.is_some() && sys::process::is_alone() {
            sys::process::exit(0);
        }
        if sys::process::await_signal(patience) == Came::Termination {
            patience = Some(LOOK);
        }
    }
}
