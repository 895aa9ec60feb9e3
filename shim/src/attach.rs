//! Clients that are attached to a container's streams.
//!
//! What the container says goes to the log first and to every client then, as much as the client's
//! pipe takes: what it does not take the client misses, and nobody waits. What a client types goes
//! into the container's stdin, one buffer of it at a time, so that a container that does not read
//! holds up the client and nothing else.
//!
//! A session ends with the container, when the client has closed all pipes of output that it had, and
//! when one without has no more to type. One that has no more to type still sees what is said.
//!
//! Of a client without pipes of output, a pipe of input cannot tell whether it has gone or has no more
//! to type, which is still to be read. So it may type into a socket: the end of input is a shutdown
//! there, and a client that closed it while the container does not read has gone.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::{Errno, Result};

use crate::log::Stream;
use crate::peers::Asker;
use crate::poll::{Key, Poll, Ready, Source, Watched};
use crate::terminal::{close, read, write};

/// Most bytes taken of a client's typing at once.
const CHUNK: usize = 4096;

/// A session: what the client types, and who waits for the end.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) container: Key,
    pub(crate) asker: Asker,
    input: Option<Input>,
}

/// From a client to a container's stdin.
#[derive(Debug)]
struct Input {
    from: Watched,
    /// A copy of the writing end of the container's stdin, or of its terminal.
    to: Watched,
    typed: Vec<u8>,
    /// What of the client is waited for while the container does not read.
    farewell: Ready,
}

/// What became of typing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typing {
    /// More may come, or there never was any.
    GoesOn,
    /// The client has no more.
    Ended,
    /// The container reads no more.
    Unread,
    /// The client has gone, and the container does not read what it typed.
    Left,
}

impl Session {
    /// A session without input.
    pub(crate) fn new(container: Key, asker: Asker) -> Self {
        Self {
            container,
            asker,
            input: None,
        }
    }

    /// Passes on what comes from `from`; both are made non-blocking.
    pub(crate) fn type_in(
        &mut self,
        poll: &Poll,
        key: Key,
        from: OwnedFd,
        to: OwnedFd,
    ) -> Result<()> {
        for fd in [&from, &to] {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&from)?.st_mode);
        let mut input = Input {
            from: Watched::new(from, Source::AttachInput(key)),
            to: Watched::new(to, Source::AttachStdin(key)),
            typed: Vec::new(),
            farewell: match kind {
                FileType::Socket => Ready::HUP,
                _ => Ready::empty(),
            },
        };
        input.from.want(poll, Ready::IN)?;
        self.input = Some(input);
        Ok(())
    }

    /// Passes on what can be passed on now.
    pub(crate) fn copy(&mut self, poll: &Poll) -> Typing {
        let Some(input) = &mut self.input else {
            return Typing::GoesOn;
        };
        let typing = input.copy(poll).unwrap_or(Typing::Unread);
        if typing != Typing::GoesOn {
            self.stop_typing(poll);
        }
        typing
    }

    /// Lets go of the container's stdin.
    pub(crate) fn stop_typing(&mut self, poll: &Poll) {
        if let Some(Input { from, to, .. }) = self.input.take() {
            close(poll, &mut Some(from));
            close(poll, &mut Some(to));
        }
    }

    /// Whether the client may type.
    pub(crate) fn has_input(&self) -> bool {
        self.input.is_some()
    }
}

impl Input {
    fn copy(&mut self, poll: &Poll) -> Result<Typing> {
        if self.typed.is_empty() {
            match read(&self.from, CHUNK)? {
                Some(bytes) if bytes.is_empty() => return Ok(Typing::Ended),
                bytes => self.typed = bytes.unwrap_or_default(),
            }
        }
        write(&self.to, &mut self.typed)?;
        let (from, to) = if self.typed.is_empty() {
            (Ready::IN, Ready::empty())
        } else if self.is_left()? {
            return Ok(Typing::Left);
        } else {
            (self.farewell, Ready::OUT)
        };
        self.from.want(poll, from)?;
        self.to.want(poll, to)?;
        Ok(Typing::GoesOn)
    }

    fn is_left(&self) -> Result<bool> {
        if self.farewell.is_empty() {
            return Ok(false);
        }
        let mut from = [PollFd::new(&self.from, PollFlags::empty())];
        poll(&mut from, Some(&Timespec::default()))?;
        Ok(from[0].revents().contains(PollFlags::HUP))
    }
}

/// Where a client sees a container's output.
#[derive(Debug)]
pub(crate) struct View {
    key: Key,
    stdout: Option<Watched>,
    stderr: Option<Watched>,
}

/// All clients that see a container's output.
#[derive(Debug, Default)]
pub(crate) struct Views(Vec<View>);

impl Views {
    /// A further client.
    pub(crate) fn add(
        &mut self,
        poll: &Poll,
        key: Key,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> Result<()> {
        let watched = |fd: Option<OwnedFd>, source| {
            fd.map(|fd| {
                rustix::io::ioctl_fionbio(&fd, true)?;
                let mut watched = Watched::new(fd, source);
                // For nothing but that the client closes it.
                watched.want(poll, Ready::ERR)?;
                Ok::<_, Errno>(watched)
            })
            .transpose()
        };
        self.0.push(View {
            key,
            stdout: watched(stdout, Source::AttachStdout(key))?,
            stderr: watched(stderr, Source::AttachStderr(key))?,
        });
        Ok(())
    }

    /// Shows bytes to every client, as far as it takes them.
    pub(crate) fn show(&mut self, poll: &Poll, stream: Stream, bytes: &[u8]) {
        for view in &mut self.0 {
            let end = view.end(stream);
            let Some(fd) = end else { continue };
            match rustix::io::write(fd.as_fd(), bytes) {
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => close(poll, end),
            }
        }
    }

    /// The stream has ended; the clients are told.
    pub(crate) fn end(&mut self, poll: &Poll, stream: Stream) {
        for view in &mut self.0 {
            close(poll, view.end(stream));
        }
    }

    /// A client has closed an end.
    pub(crate) fn hung_up(&mut self, poll: &Poll, key: Key, stream: Stream) {
        if let Some(view) = self.0.iter_mut().find(|view| view.key == key) {
            close(poll, view.end(stream));
        }
    }

    /// Whether a client still sees anything.
    pub(crate) fn has(&self, key: Key) -> bool {
        let view = self.0.iter().find(|view| view.key == key);
        view.is_some_and(|view| view.stdout.is_some() || view.stderr.is_some())
    }

    /// A client is not shown anything any more.
    pub(crate) fn remove(&mut self, poll: &Poll, key: Key) {
        for view in self.0.extract_if(.., |view| view.key == key) {
            for mut end in [view.stdout, view.stderr] {
                close(poll, &mut end);
            }
        }
    }
}

impl View {
    fn end(&mut self, stream: Stream) -> &mut Option<Watched> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, socketpair};
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::time::Duration;

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC).unwrap()
    }

    fn asker() -> Asker {
        Asker {
            connection: 1,
            seq: 1,
        }
    }

    fn taken(from: &OwnedFd) -> usize {
        rustix::io::ioctl_fionbio(from, true).unwrap();
        let mut all = 0;
        while let Ok(Some(bytes)) = read(from, 1 << 16) {
            if bytes.is_empty() {
                break;
            }
            all += bytes.len();
        }
        all
    }

    #[test]
    fn a_client_that_does_not_read_misses_something_and_holds_nobody_up() {
        let (poll, mut views) = (Poll::new().unwrap(), Views::default());
        let ((slow, slow_end), (quick, quick_end)) = (pipe(), pipe());
        views.add(&poll, 1, Some(slow_end), None).unwrap();
        views.add(&poll, 2, Some(quick_end), None).unwrap();
        let mut seen = 0;
        for _ in 0..100 {
            views.show(&poll, Stream::Stdout, &[b'x'; 4096]);
            seen += taken(&quick);
        }
        assert_eq!(seen, 100 * 4096);
        assert_eq!(taken(&slow), 65536);
        views.show(&poll, Stream::Stdout, b"again");
        assert_eq!(taken(&slow), 5);
    }

    #[test]
    fn a_client_that_has_gone_is_noticed_without_any_output() {
        let (poll, mut views) = (Poll::new().unwrap(), Views::default());
        let ((reader, out), (other, err)) = (pipe(), pipe());
        views.add(&poll, 7, Some(out), Some(err)).unwrap();
        let ready = || -> Vec<_> {
            let ready = poll.wait(Some(Duration::ZERO)).unwrap();
            ready.map(|(source, _)| source).collect()
        };
        assert_eq!(ready(), []);
        drop(reader);
        assert_eq!(ready(), [Source::AttachStdout(7)]);
        views.hung_up(&poll, 7, Stream::Stdout);
        assert!(views.has(7));
        drop(other);
        assert_eq!(ready(), [Source::AttachStderr(7)]);
        views.hung_up(&poll, 7, Stream::Stderr);
        assert!(!views.has(7));
        assert_eq!(ready(), []);
    }

    #[test]
    fn typing_waits_for_a_container_that_does_not_read() {
        let poll = Poll::new().unwrap();
        let ((from, typing), (stdin, to)) = (pipe(), pipe());
        let mut session = Session::new(1, asker());
        session.type_in(&poll, 2, from, to).unwrap();
        rustix::io::ioctl_fionbio(&typing, true).unwrap();
        let mut typed = 0;
        let mut idle = 0;
        // Both pipes and the buffer fill up; then nothing moves.
        while idle < 3 {
            match rustix::io::write(&typing, &[b'x'; 4096]) {
                Ok(len) => (typed, idle) = (typed + len, 0),
                Err(_) => idle += 1,
            }
            assert_eq!(session.copy(&poll), Typing::GoesOn);
        }
        drop(typing);
        let mut seen = 0;
        loop {
            seen += taken(&stdin);
            if session.copy(&poll) == Typing::Ended {
                break;
            }
        }
        assert_eq!(seen + taken(&stdin), typed);
        assert!(!session.has_input());
    }

    /// A session that is typed into until nothing moves, as by a client that is shown nothing.
    fn full_session(poll: &Poll) -> (Session, OwnedFd, OwnedFd, usize) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (from, typing) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let (stdin, to) = pipe();
        let mut session = Session::new(1, asker());
        session.type_in(poll, 2, from, to).unwrap();
        let (mut typed, mut idle) = (0, 0);
        while idle < 3 {
            match rustix::io::write(&typing, &[b'x'; 4096]) {
                Ok(len) => (typed, idle) = (typed + len, 0),
                Err(_) => idle += 1,
            }
            assert_eq!(session.copy(poll), Typing::GoesOn);
        }
        (session, typing, stdin, typed)
    }

    /// Its session lasted as long as the container: that it had gone could not be told.
    #[test]
    fn a_client_that_is_shown_nothing_and_goes_while_nobody_reads_is_noticed() {
        let poll = Poll::new().unwrap();
        let ready = || -> Vec<_> {
            let ready = poll.wait(Some(Duration::ZERO)).unwrap();
            ready.map(|(source, _)| source).collect()
        };
        let (mut session, typing, _stdin, _) = full_session(&poll);
        assert_eq!(ready(), []);
        drop(typing);
        assert_eq!(ready(), [Source::AttachInput(2)]);
        assert_eq!(session.copy(&poll), Typing::Left);
        assert!(!session.has_input());
        assert_eq!(ready(), []);
    }

    #[test]
    fn what_was_typed_before_the_end_of_input_waits_for_its_reader() {
        let poll = Poll::new().unwrap();
        let (mut session, typing, stdin, typed) = full_session(&poll);
        rustix::net::shutdown(&typing, Shutdown::Write).unwrap();
        assert_eq!(poll.wait(Some(Duration::ZERO)).unwrap().count(), 0);
        assert_eq!(session.copy(&poll), Typing::GoesOn);
        let mut seen = 0;
        while session.copy(&poll) == Typing::GoesOn {
            seen += taken(&stdin);
        }
        assert_eq!(seen + taken(&stdin), typed);
    }

    #[test]
    fn a_container_that_closed_its_stdin_is_told_apart() {
        let poll = Poll::new().unwrap();
        let ((from, typing), (stdin, to)) = (pipe(), pipe());
        let mut session = Session::new(1, asker());
        session.type_in(&poll, 2, from, to).unwrap();
        drop(stdin);
        rustix::io::write(&typing, b"x").unwrap();
        assert_eq!(session.copy(&poll), Typing::Unread);
    }
}
