//! One container of the pod: its process, its output, its state.

mod account;
mod output;
mod state;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use skiff_runtime::seccomp::Filter;
use skiff_shim_proto::message::{ContainerState, Failure};
use skiff_shim_proto::record::ExitRecord;

pub(crate) use output::{CHUNK, Output};
pub(crate) use state::{Action, Input, State, step};

use crate::bundle::Bundle;
use crate::call::update::Updates;
use crate::peers::Asker;
use crate::process::Process;
use crate::stdio::Users;

/// A container between its Create and the end of its Delete.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) state: State,
    /// Its first process.
    pub(crate) process: Process,
    /// Start time of that process.
    pub(crate) start_time: u64,
    /// The child still has something to say, and its status descriptor is watched.
    pub(crate) expects_news: bool,
    pub(crate) cgroup: PathBuf,
    /// OOM kills counted in the cgroup before the container was there.
    pub(crate) earlier_oom_kills: u64,
    /// Its first process is the first of a PID namespace, so that the kernel kills the rest.
    pub(crate) own_pid_namespace: bool,
    /// Its processes may look into others of their PID namespace, which may be another
    /// container's.
    pub(crate) may_trace: bool,
    pub(crate) output: Output,
    /// Its users, for execs.
    pub(crate) users: Users,
    /// Its seccomp filter, for execs.
    pub(crate) filter: Option<Filter>,
    /// What its hooks were given, if it has any.
    pub(crate) bundle: Option<Bundle>,
    /// Writing end of its stdin, kept for attach.
    pub(crate) stdin: Option<OwnedFd>,
    /// Its stdin is closed after the first attach session.
    pub(crate) stdin_once: bool,
    /// It has a terminal.
    pub(crate) terminal: bool,
    /// Its terminal takes input.
    pub(crate) reads_terminal: bool,
    pub(crate) exit_path: PathBuf,
    /// Nanoseconds since the epoch; 0 before.
    pub(crate) started_at: i64,
    /// When its first process was told to execute the command.
    pub(crate) let_go: Option<Instant>,
    /// How long that took it.
    pub(crate) exec_took: Option<Duration>,
    /// How the first process ended; `None` until it is reaped.
    pub(crate) ended: Option<Ended>,
    /// Why the child gave up.
    pub(crate) failure: Option<Failure>,
    /// Set once the exit has been told.
    pub(crate) exit: Option<Exit>,
    /// Who waits for it to be created.
    pub(crate) creator: Option<Asker>,
    /// Who waits for it to be started.
    pub(crate) starter: Option<Asker>,
    /// Who waits for it to be removed.
    pub(crate) removers: Vec<Asker>,
    /// Set while its cgroup is being removed.
    pub(crate) removal: Option<Removal>,
    /// Changes of its limits.
    pub(crate) updates: Updates,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// 0-255; 128 + signal for a signalled process.
    pub(crate) code: i32,
    /// The signal that ended it, or 0.
    pub(crate) signal: i32,
}

/// An exit that has been told.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) record: ExitRecord,
    /// When to try again to write the record; `None` once it is written.
    pub(crate) retry: Option<Instant>,
    /// It has been told that the record cannot be written.
    pub(crate) warned: bool,
}

/// A cgroup on its way out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Removal {
    /// When to try next.
    pub(crate) next: Instant,
    /// How long to wait after that.
    pause: Duration,
    /// When to say that it does not work.
    pub(crate) deadline: Instant,
}

/// First pause between attempts to remove a cgroup.
const PAUSE: Duration = Duration::from_millis(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How long processes may take to die before a Delete fails.
const PATIENCE: Duration = Duration::from_secs(30);

impl Removal {
    /// To be tried at once.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            next: now,
            pause: PAUSE,
            deadline: now + PATIENCE,
        }
    }

    /// After an attempt that found the cgroup busy.
    pub(crate) fn later(mut self, now: Instant) -> Self {
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self
    }
}

impl Container {
    /// For [`skiff_shim_proto::message::Reply::State`].
    pub(crate) fn describe(&self) -> ContainerState {
        ContainerState {
            id: self.id.clone(),
            pid: self.process.pid(),
            start_time: self.start_time,
            started_at: self.started_at,
            exit: self.exit.as_ref().map(|exit| exit.record.clone()),
        }
    }

    /// A copy of what clients type into: its stdin, or its terminal. `None` when it has neither.
    pub(crate) fn typed_into(&self) -> rustix::io::Result<Option<OwnedFd>> {
        let reads_terminal = self.terminal && self.reads_terminal;
        let terminal = self.output.stdout().filter(|_| reads_terminal);
        let to = self.stdin.as_ref().map(AsFd::as_fd).or(terminal);
        to.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0))
            .transpose()
    }

    /// The next time something is to be done without being asked.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let removal = self.removal.map(|removal| removal.next);
        let record = self.exit.as_ref().and_then(|exit| exit.retry);
        removal.into_iter().chain(record).min()
    }
}

impl Ended {
    /// From the kernel's wait status.
    pub(crate) fn from_status(status: rustix::process::WaitStatus) -> Self {
        match status.terminating_signal() {
            Some(signal) => Self {
                code: 128 + signal,
                signal,
            },
            // With no options wait reports nothing but ends.
            None => Self {
                code: status.exit_status().unwrap_or(255),
                signal: 0,
            },
        }
    }
}
