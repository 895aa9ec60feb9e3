//! What happens between clone3 and exec. Runs in the child only.
//!
//! The child inherits what the parent prepared and needs no path of the host any more, except
//! for its /proc: that one is known to be a /proc, which a container's own need not be. So
//! everything is written there, before the root changes.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::set_no_new_privs;

use crate::console::Console;
use crate::error::Doing;
use crate::label::Labels;
use crate::oci_spec::runtime::Process;
use crate::report::{self, Report, Word};
use crate::seccomp::Filter;
use crate::{Error, Failure, command, credential, sys};

/// Descriptors 0, 1 and 2 and those after them, as the child finds them.
#[derive(Debug)]
pub(crate) struct Fds<'a> {
    /// `None`: a terminal is to be made.
    pub(crate) standard: Option<[BorrowedFd<'a>; 3]>,
    pub(crate) extra: &'a [BorrowedFd<'a>],
}

impl Fds<'_> {
    fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let standard = self.standard.iter().flatten();
        standard.chain(self.extra).map(AsRawFd::as_raw_fd)
    }
}

/// The child's end of the conversation.
#[derive(Debug)]
pub(crate) struct Status(pub(crate) OwnedFd);

impl Status {
    pub(crate) fn say(&self, report: &Report) {
        // A parent that cannot be told is gone, which the next word from it would show.
        let _ = report::send(self.0.as_fd(), report);
    }

    pub(crate) fn hear(&self, word: Word) -> bool {
        report::hear(self.0.as_fd(), word)
    }

    /// Reports why there will be no container process, and ends.
    pub(crate) fn give_up(&self, error: &Error) -> ! {
        self.say(&Report::Failed(Failure::from(error)));
        sys::process::exit(1)
    }
}

/// First steps of every child: signals as a program expects them, no descriptor but those
/// needed, and nobody in the container's namespaces may look into this process while it is
/// still one of ours (CVE-2019-5736 and its kin).
pub(crate) fn set_apart(
    status: &Status,
    fds: &Fds<'_>,
    needed: impl IntoIterator<Item = RawFd>,
) -> Result<(), Error> {
    sys::process::reset_signals();
    let mut keep: Vec<RawFd> = fds.numbers().chain(needed).collect();
    keep.push(status.0.as_raw_fd());
    sys::fd::close_all_but(3, &mut keep).doing(|| "close inherited descriptors")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "become undumpable")?;
    rustix::process::setsid().doing(|| "start a session")?;
    Ok(())
}

/// Puts another descriptor in the place of the caller's own standard ones, but for those that the
/// command gets.
pub(crate) fn replace_standard(fds: &Fds<'_>, with: BorrowedFd<'_>) -> Result<(), Error> {
    let own = |target: &RawFd| !fds.numbers().any(|fd| fd == *target);
    (0..3)
        .filter(own)
        .try_for_each(|target| sys::fd::place(with, target))
        .doing(|| "give up the own standard descriptors")
}

/// Writes the process's `oom_score_adj`, through the host's /proc.
pub(crate) fn set_oom_score(process: &Process) -> Result<(), Error> {
    let Some(score) = process.oom_score_adj() else {
        return Ok(());
    };
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open("/proc/self/oom_score_adj", flags, Mode::empty())
        .and_then(|file| {
            rustix::io::write(&file, score.to_string().as_bytes())?;
            sys::fd::leave_to_exec(file);
            Ok(())
        })
        .doing(|| format!("set oom_score_adj to {score} (lowering it takes CAP_SYS_RESOURCE)"))
}

/// Puts descriptors where the command expects them. All others are left to exec to close.
pub(crate) fn arrange(
    fds: &Fds<'_>,
    console: Option<&Console>,
    process: &Process,
) -> Result<(), Error> {
    // Sources may lie where targets are: lift every one above all targets first.
    let first_free = 3 + fds.extra.len() as RawFd;
    let lift = |fd: &BorrowedFd<'_>| {
        rustix::io::fcntl_dupfd_cloexec(fd, first_free).doing(|| "duplicate a descriptor")
    };
    let in_the_way = fds.numbers().any(|fd| fd < first_free);
    let lifted: Vec<OwnedFd> = if in_the_way {
        fds.standard
            .iter()
            .flatten()
            .chain(fds.extra)
            .map(lift)
            .collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    let sources: Vec<BorrowedFd<'_>> = if in_the_way {
        lifted.iter().map(AsFd::as_fd).collect()
    } else {
        fds.standard
            .iter()
            .flatten()
            .chain(fds.extra)
            .copied()
            .collect()
    };
    let first_target = if fds.standard.is_some() { 0 } else { 3 };
    for (target, source) in (first_target..).zip(&sources) {
        sys::fd::place(*source, target).doing(|| format!("place descriptor {target}"))?;
    }
    if let Some(console) = console {
        console.adopt(process)?;
    }
    sys::fd::close_on_exec_from(first_free).doing(|| "mark descriptors close-on-exec")
}

/// The last steps of every child, from a complete container to the command.
pub(crate) struct Launch<'a> {
    labels: Labels,
    filter: Option<&'a Filter>,
    cwd: Option<OwnedFd>,
    command: command::Command,
    settled: bool,
}

impl<'a> Launch<'a> {
    /// Looks up everything that the configuration names, while still root. The labels have been
    /// opened before, through the host's /proc.
    pub(crate) fn prepare(
        root: BorrowedFd<'_>,
        process: &Process,
        labels: Labels,
        filter: Option<&'a Filter>,
    ) -> Result<Self, Error> {
        Ok(Self {
            labels,
            filter,
            cwd: command::open_cwd(root, process)?,
            command: command::Command::new(root, process)?,
            settled: false,
        })
    }

    /// Does what takes no word to start, while nobody waits: a container's bounding set shrinks
    /// by one call for each capability, and a command is looked for in each directory of PATH.
    /// From here on the process cannot run hooks. In the container's root.
    pub(crate) fn settle(&mut self, process: &Process) -> Result<(), Error> {
        credential::shed(process)?;
        self.command.look_ahead();
        self.settled = true;
        Ok(())
    }

    /// Becomes the user, in the working directory, confined. The filter goes on as late as it
    /// can, see [`crate::seccomp`]; what comes after it is listed there and in docs/security.md.
    pub(crate) fn become_user(&self, process: &Process, status: &Status) -> Result<(), Error> {
        if !self.settled {
            credential::shed(process)?;
        }
        let confine = || self.filter.map_or(Ok(()), |filter| filter.put_on(status));
        let no_new_privileges = process.no_new_privileges() == Some(true);
        let doing = || format!("enter working directory {}", process.cwd().display());
        // Root may be kept out of a directory of the user's, on NFS for example.
        let enter = || self.cwd.as_ref().map_or(Ok(()), rustix::process::fchdir);
        let entered = enter();
        credential::set_limits(process.rlimits().as_deref().unwrap_or_default())?;
        self.labels.apply()?;
        credential::become_user(
            process,
            || {
                if no_new_privileges { Ok(()) } else { confine() }
            },
        )?;
        match entered {
            Err(rustix::io::Errno::ACCESS) => enter().doing(doing),
            done => done.doing(doing),
        }?;
        if no_new_privileges {
            set_no_new_privs(true).doing(|| "set no_new_privs")?;
            confine()?;
        }
        Ok(())
    }

    /// Executes the command; returns only with the reason why not.
    pub(crate) fn execute(self) -> Error {
        let Self {
            command,
            cwd,
            labels,
            ..
        } = self;
        // A filter need not let us close anything.
        if let Some(cwd) = cwd {
            sys::fd::leave_to_exec(cwd);
        }
        labels.leave_to_exec();
        command.execute()
    }
}

/// Runs a child's steps to their end, which is the command or a report.
pub(crate) fn run(status: &Status, steps: impl FnOnce() -> Result<Infallible, Error>) -> ! {
    match steps() {
        Err(error) => status.give_up(&error),
        Ok(never) => match never {},
    }
}
