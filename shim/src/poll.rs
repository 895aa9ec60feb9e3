//! The one epoll and what it waits for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, Result};

pub(crate) use epoll::EventFlags as Ready;

/// Most events taken from the kernel at once.
const BATCH: usize = 16;
/// Bits of the event data that say what kind of source it is; the others hold its key.
const KIND_BITS: u32 = 8;

/// Number of a connection, container or exec. Never used twice, so that an event that was
/// fetched before its source was closed finds nobody.
pub(crate) type Key = u64;

/// Whose descriptor is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The signalfd.
    Signals,
    /// The listening socket.
    Listener,
    /// A connection to a daemon.
    Connection(Key),
    /// The child that becomes a container has news.
    Progress(Key),
    /// A container's standard output, or its terminal.
    Stdout(Key),
    /// A container's standard error.
    Stderr(Key),
    /// The child that becomes an exec's process has news.
    ExecProgress(Key),
    /// Master side of an exec's terminal.
    Terminal(Key),
    /// What a client types into an exec's terminal.
    TerminalInput(Key),
    /// Where an exec's terminal is shown.
    TerminalOutput(Key),
    /// What an attached client types.
    AttachInput(Key),
    /// The container's stdin, as an attached client has it.
    AttachStdin(Key),
    /// Where an attached client sees the container's output.
    AttachStdout(Key),
    /// Where an attached client sees the container's error output.
    AttachStderr(Key),
    /// A connection to a port of the pod.
    Dial(Key),
}

impl Source {
    fn to_data(self) -> u64 {
        let (kind, key) = match self {
            Self::Signals => (0, 0),
            Self::Listener => (1, 0),
            Self::Connection(key) => (3, key),
            Self::Progress(key) => (4, key),
            Self::Stdout(key) => (5, key),
            Self::Stderr(key) => (6, key),
            Self::ExecProgress(key) => (7, key),
            Self::Terminal(key) => (8, key),
            Self::TerminalInput(key) => (9, key),
            Self::TerminalOutput(key) => (10, key),
            Self::AttachInput(key) => (11, key),
            Self::AttachStdin(key) => (12, key),
            Self::AttachStdout(key) => (13, key),
            Self::AttachStderr(key) => (14, key),
            Self::Dial(key) => (15, key),
        };
        key << KIND_BITS | kind
    }

    fn from_data(data: u64) -> Option<Self> {
        let key = data >> KIND_BITS;
        Some(match data & ((1 << KIND_BITS) - 1) {
            0 => Self::Signals,
            1 => Self::Listener,
            3 => Self::Connection(key),
            4 => Self::Progress(key),
            5 => Self::Stdout(key),
            6 => Self::Stderr(key),
            7 => Self::ExecProgress(key),
            8 => Self::Terminal(key),
            9 => Self::TerminalInput(key),
            10 => Self::TerminalOutput(key),
            11 => Self::AttachInput(key),
            12 => Self::AttachStdin(key),
            13 => Self::AttachStdout(key),
            14 => Self::AttachStderr(key),
            15 => Self::Dial(key),
            _ => return None,
        })
    }
}

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Poll(OwnedFd);

impl Poll {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Waits until something is ready, a signal arrives or the time is over.
    pub(crate) fn wait(
        &self,
        timeout: Option<Duration>,
    ) -> Result<impl Iterator<Item = (Source, Ready)> + use<>> {
        let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
        let empty = epoll::Event {
            flags: Ready::empty(),
            data: epoll::EventData::new_u64(0),
        };
        let mut events = [empty; BATCH];
        let count = match epoll::wait(&self.0, &mut events, timeout.as_ref()) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(e) => return Err(e),
        };
        Ok(events.into_iter().take(count).filter_map(|event| {
            let (data, flags) = (event.data, event.flags);
            Some((Source::from_data(data.u64())?, flags))
        }))
    }

    /// Waits for a descriptor that its owner removes with [`Poll::remove`] or closes.
    pub(crate) fn add(&self, fd: impl AsFd, source: Source, interest: Ready) -> Result<()> {
        epoll::add(
            &self.0,
            fd,
            epoll::EventData::new_u64(source.to_data()),
            interest,
        )
    }

    pub(crate) fn remove(&self, fd: impl AsFd) {
        // The only way to fail is that it is not there.
        let _ = epoll::delete(&self.0, fd);
    }
}

/// A descriptor of ours with what it is watched for.
///
/// With no interest it is not in the epoll set at all, since an error or a hang-up is reported
/// however little is asked for, and would wake the loop for ever.
#[derive(Debug)]
pub(crate) struct Watched {
    fd: OwnedFd,
    source: Source,
    interest: Ready,
}

impl Watched {
    /// Watches for nothing yet.
    pub(crate) fn new(fd: OwnedFd, source: Source) -> Self {
        Self {
            fd,
            source,
            interest: Ready::empty(),
        }
    }

    /// The descriptor, which must not be watched any more.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Changes what it is watched for.
    pub(crate) fn want(&mut self, poll: &Poll, interest: Ready) -> Result<()> {
        if interest == self.interest {
            return Ok(());
        }
        let data = epoll::EventData::new_u64(self.source.to_data());
        if self.interest.is_empty() {
            epoll::add(&poll.0, &self.fd, data, interest)?;
        } else if interest.is_empty() {
            epoll::delete(&poll.0, &self.fd)?;
        } else {
            epoll::modify(&poll.0, &self.fd, data, interest)?;
        }
        self.interest = interest;
        Ok(())
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::pipe;

    #[test]
    fn a_source_survives_the_kernel() {
        for source in [
            Source::Signals,
            Source::Listener,
            Source::Connection(1),
            Source::Progress(2),
            Source::Stdout(1 << 50),
            Source::Stderr(3),
            Source::ExecProgress(4),
            Source::Terminal(5),
            Source::TerminalInput(6),
            Source::TerminalOutput(7),
            Source::AttachInput(8),
            Source::AttachStdin(9),
            Source::AttachStdout(10),
            Source::AttachStderr(11),
            Source::Dial(12),
        ] {
            assert_eq!(Source::from_data(source.to_data()), Some(source));
        }
        assert_eq!(Source::from_data(99), None);
    }

    #[test]
    fn without_interest_a_hang_up_is_not_told() {
        let poll = Poll::new().unwrap();
        let (reader, writer) = pipe().unwrap();
        let mut watched = Watched::new(reader, Source::Stdout(9));
        let ready = || poll.wait(Some(Duration::ZERO)).unwrap().collect::<Vec<_>>();
        watched.want(&poll, Ready::IN).unwrap();
        drop(writer);
        assert_eq!(ready(), [(Source::Stdout(9), Ready::HUP)]);
        watched.want(&poll, Ready::empty()).unwrap();
        assert_eq!(ready(), []);
        watched.want(&poll, Ready::IN).unwrap();
        assert_eq!(ready(), [(Source::Stdout(9), Ready::HUP)]);
    }
}
