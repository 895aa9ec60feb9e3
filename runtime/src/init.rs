//! The parent's end of a child that is becoming a container process.
//!
//! ```text
//!   create ──> Building ──ready──> Waiting ──start──> Starting ──end of file──> Over: Running
//!   exec ────────────────────────────────────────────────┘
//!   a failure, or the end of file too early, leads from anywhere to Over: Failed
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::create::Timing;
use crate::hook::Outside;
use crate::oci_spec::runtime::ContainerState;
use crate::report::{self, Report, Word};
use crate::seccomp::Offer;
use crate::sys::clone::Child;
use crate::{Error, process};

/// What the process gets as descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Stdio<'a> {
    /// These, in order. The caller keeps its copies and closes them when it likes.
    Fds([BorrowedFd<'a>; 3]),
    /// A new pseudo-terminal of the size `process.consoleSize`; its master side arrives with
    /// the progress.
    Terminal,
}

/// A process under way: building, waiting for [`Init::start`], or running.
#[derive(Debug)]
pub struct Init {
    pid: i32,
    pidfd: OwnedFd,
    status: OwnedFd,
    phase: Phase,
    /// State of the container when the process executes its command.
    container: ContainerState,
    console: Option<OwnedFd>,
    hooks: Option<Outside>,
    timing: Option<Timing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Building,
    Waiting,
    Starting,
    Over,
}

/// How far the child has come.
#[derive(Debug)]
pub enum Progress {
    /// Nothing new.
    Building,
    /// The container is built and the process waits for [`Init::start`]. Told once.
    Ready {
        /// Master side of the pseudo-terminal, with [`Stdio::Terminal`].
        console: Option<OwnedFd>,
    },
    /// The command has been executed (or the process was killed on the way there: the pidfd
    /// tells).
    Running {
        /// Master side of the pseudo-terminal of an [`crate::exec`] with [`Stdio::Terminal`].
        console: Option<OwnedFd>,
    },
    /// The child gave up and exits; it remains to be reaped.
    Failed(Failure),
}

/// Why a child gave up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What was attempted, on which path, and the system's answer.
    pub message: String,
    /// The system's answer as a number; 0 when there was none.
    pub errno: i32,
    /// Set when the command itself cannot be executed: 127 when it does not exist, 126
    /// otherwise.
    pub exit_code: Option<i32>,
}

impl Init {
    /// A created child, which will build a container and wait.
    pub(crate) fn created(
        child: Child,
        status: OwnedFd,
        hooks: Option<Outside>,
        timing: Timing,
    ) -> Self {
        let Child { pid, pidfd } = child;
        Self {
            pid,
            pidfd,
            status,
            phase: Phase::Building,
            container: ContainerState::Created,
            console: None,
            hooks,
            timing: Some(timing),
        }
    }

    /// A child that will execute without waiting.
    pub(crate) fn executing(child: Child, status: OwnedFd) -> Self {
        let Child { pid, pidfd } = child;
        Self {
            pid,
            pidfd,
            status,
            phase: Phase::Starting,
            container: ContainerState::Running,
            console: None,
            hooks: None,
            timing: None,
        }
    }

    /// Takes over a built container that another process created with a gate
    /// ([`crate::Create::gate`]): `socket` is connected to the gate.
    pub fn attach(pid: i32, pidfd: OwnedFd, socket: OwnedFd) -> Self {
        Self {
            pid,
            pidfd,
            status: socket,
            phase: Phase::Waiting,
            container: ContainerState::Created,
            console: None,
            hooks: None,
            timing: None,
        }
    }

    /// Host pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Field 22 of /proc/pid/stat, in clock ticks after boot: with the pid it names the process
    /// for ever. To be asked before the process is reaped.
    pub fn start_time(&self) -> Result<u64, Error> {
        process::start_time(self.pid)
    }

    /// How long its creation took, for who has created it.
    pub fn timing(&self) -> Option<Timing> {
        self.timing
    }

    /// Readable once the process has ended. To be reaped with `waitid(P_PIDFD)`.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Readable when [`Self::progress`] has news; never again after `Running` or `Failed`,
    /// when it should leave the caller's epoll set.
    pub fn status_fd(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// Reads what the child has to say, without waiting (except for hooks that the
    /// configuration wants run outside of the container).
    pub fn progress(&mut self) -> Result<Progress, Error> {
        if self.phase == Phase::Over {
            return Ok(Progress::Building);
        }
        let report = report::receive(self.status.as_fd())
            .map_err(|e| Error::system(format!("hear from process {}", self.pid), e))?;
        let Some(report) = report else {
            return Ok(Progress::Building);
        };
        match (report, self.phase) {
            (Report::Console(console), _) => {
                self.console = Some(console);
                self.progress()
            }
            (Report::Hooks, Phase::Building) => self.run_hooks(),
            (Report::Ready(console), Phase::Building) => {
                self.phase = Phase::Waiting;
                Ok(Progress::Ready { console })
            }
            (Report::Listener(offer), Phase::Starting) => {
                let taken = Offer::parse(&offer).and_then(|offer| {
                    offer.hand_over(self.pid, self.pidfd.as_fd(), self.container)
                });
                self.answer(taken, Word::ListenerTaken)
            }
            (Report::Closed, Phase::Starting) => {
                self.phase = Phase::Over;
                Ok(Progress::Running {
                    console: self.console.take(),
                })
            }
            (Report::Failed(failure), _) => Ok(self.failed(failure)),
            (Report::Closed, _) => Ok(self.failed(Failure {
                message: format!(
                    "container process {} died before it was started (killed, or out of memory)",
                    self.pid
                ),
                errno: 0,
                exit_code: None,
            })),
            (Report::Ready(_) | Report::Hooks | Report::Listener(_), _) => {
                Err(self.out_of_turn("report"))
            }
        }
    }

    /// Waits for the next progress other than `Building`. For callers without an event loop.
    pub fn wait(&mut self) -> Result<Progress, Error> {
        if self.phase == Phase::Over {
            return Err(self.out_of_turn("wait"));
        }
        loop {
            match poll(&mut [PollFd::new(&self.status, PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(Error::system("poll", e)),
            }
            match self.progress()? {
                Progress::Building => {}
                progress => return Ok(progress),
            }
        }
    }

    /// Lets a ready process execute its command. The outcome arrives with [`Self::progress`].
    pub fn start(&mut self) -> Result<(), Error> {
        if self.phase != Phase::Waiting {
            return Err(self.out_of_turn("start"));
        }
        report::tell(self.status.as_fd(), Word::Start)
            .map_err(|e| Error::system(format!("start process {}", self.pid), e))?;
        self.phase = Phase::Starting;
        Ok(())
    }

    fn run_hooks(&mut self) -> Result<Progress, Error> {
        let outcome = self
            .hooks
            .take()
            .map_or(Ok(()), |hooks| hooks.run(self.pid));
        self.answer(outcome, Word::HooksDone)
    }

    /// Lets the child go on after what it asked for was done, or ends it.
    fn answer(&mut self, outcome: Result<(), Error>, word: Word) -> Result<Progress, Error> {
        match outcome {
            Ok(()) => {
                report::tell(self.status.as_fd(), word)
                    .map_err(|e| Error::system(format!("answer process {}", self.pid), e))?;
                Ok(Progress::Building)
            }
            Err(e) => {
                let _ =
                    rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
                Ok(self.failed(Failure {
                    message: e.to_string(),
                    errno: 0,
                    exit_code: None,
                }))
            }
        }
    }

    fn failed(&mut self, failure: Failure) -> Progress {
        self.phase = Phase::Over;
        Progress::Failed(failure)
    }

    fn out_of_turn(&self, action: &'static str) -> Error {
        let state = match self.phase {
            Phase::Building => "being built",
            Phase::Waiting => "waiting to be started",
            Phase::Starting => "starting",
            Phase::Over => "running or gone",
        };
        Error::State {
            pid: self.pid,
            state,
            action,
        }
    }
}
