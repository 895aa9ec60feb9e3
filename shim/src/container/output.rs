//! What a container says: from its pipes or its terminal to its log, and to attached clients.
//!
//! A chunk is read only after the one before is in the log, so that a container that outruns the
//! log's disk waits in its own write. Without a log, output is read and dropped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::attach::Views;
use crate::log::{Log, Stream};
use crate::poll::{Key, Poll, Ready, Source, Watched};

/// Most bytes read at once, and what a pipe holds unless its owner asks for more.
pub(crate) const CHUNK: usize = 64 * 1024;
/// Most bytes taken after the container has ended, so that somebody else who holds its pipe
/// cannot keep it alive: the most a pipe holds without privileges (fs.pipe-max-size).
const LAST: usize = 1024 * 1024;

/// The reading ends, and the log.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Option<Watched>,
    stderr: Option<Watched>,
    log: Option<Log>,
    /// Clients that are attached.
    views: Views,
}

impl Output {
    /// Nothing to read yet.
    pub(crate) fn new(log: Option<Log>) -> Self {
        Self {
            stdout: None,
            stderr: None,
            log,
            views: Views::default(),
        }
    }

    /// Reads `fd` into the log as `stream` from now on; `fd` is made non-blocking.
    pub(crate) fn read(
        &mut self,
        poll: &Poll,
        key: Key,
        stream: Stream,
        fd: OwnedFd,
    ) -> rustix::io::Result<()> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        let source = match stream {
            Stream::Stdout => Source::Stdout(key),
            Stream::Stderr => Source::Stderr(key),
        };
        let mut watched = Watched::new(fd, source);
        watched.want(poll, Ready::IN)?;
        *self.end(stream) = Some(watched);
        Ok(())
    }

    /// The clients that see it.
    pub(crate) fn views(&mut self) -> &mut Views {
        &mut self.views
    }

    /// Where it comes from as standard output: the terminal of a container that has one.
    pub(crate) fn stdout(&self) -> Option<BorrowedFd<'_>> {
        self.stdout.as_ref().map(AsFd::as_fd)
    }

    /// The log, when there is one.
    pub(crate) fn log(&mut self) -> Option<&mut Log> {
        self.log.as_mut()
    }

    /// Takes one chunk of a stream that is ready. `buffer` is scratch space of at least
    /// [`CHUNK`] bytes, `now` the time in nanoseconds since the epoch. Gives what an operator
    /// should know about the log.
    pub(crate) fn take(
        &mut self,
        poll: &Poll,
        stream: Stream,
        buffer: &mut [u8],
        now: i64,
    ) -> Option<String> {
        self.chunk(poll, stream, &mut buffer[..CHUNK], now).1
    }

    /// The container has ended: takes what it left in its streams and closes them and the log.
    pub(crate) fn finish(&mut self, poll: &Poll, buffer: &mut [u8], now: i64) -> Vec<String> {
        let mut notices = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut taken = 0;
            while taken < LAST {
                let (count, notice) = self.chunk(poll, stream, &mut buffer[..CHUNK], now);
                notices.extend(notice);
                if count == 0 {
                    break;
                }
                taken += count;
            }
            notices.extend(self.end_stream(poll, stream, now));
        }
        self.log = None;
        notices
    }

    /// Reads once: how many bytes came, and what is to be said about the log.
    fn chunk(
        &mut self,
        poll: &Poll,
        stream: Stream,
        buffer: &mut [u8],
        now: i64,
    ) -> (usize, Option<String>) {
        let Some(end) = self.end(stream) else {
            return (0, None);
        };
        match rustix::io::read(&*end, &mut *buffer) {
            Ok(0) => (0, self.end_stream(poll, stream, now)),
            Ok(count) => {
                let log = self.log.as_mut();
                let notice = log.and_then(|log| log.write(stream, &buffer[..count], now));
                self.views.show(poll, stream, &buffer[..count]);
                (count, notice)
            }
            Err(Errno::AGAIN | Errno::INTR) => (0, None),
            // A terminal whose other ends are all closed says EIO.
            Err(_) => (0, self.end_stream(poll, stream, now)),
        }
    }

    fn end_stream(&mut self, poll: &Poll, stream: Stream, now: i64) -> Option<String> {
        self.views.end(poll, stream);
        let mut watched = self.end(stream).take()?;
        // Removed first: a child just cloned may hold a copy that keeps it in the epoll set.
        let _ = watched.want(poll, Ready::empty());
        self.log.as_mut()?.finish(stream, now)
    }

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
    use rustix::pipe::{PipeFlags, pipe_with};
    use skiff_shim_proto::message::LOG_ENTRY;
    use std::time::Duration;

    struct Scene {
        _dir: tempfile::TempDir,
        path: std::path::PathBuf,
        poll: Poll,
        output: Output,
        writer: OwnedFd,
        buffer: Vec<u8>,
    }

    fn scene() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let poll = Poll::new().unwrap();
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut output = Output::new(Some(Log::open(&path, LOG_ENTRY).unwrap()));
        output.read(&poll, 1, Stream::Stdout, reader).unwrap();
        Scene {
            _dir: dir,
            path,
            poll,
            output,
            writer,
            buffer: vec![0; CHUNK],
        }
    }

    impl Scene {
        fn ready(&self) -> usize {
            self.poll.wait(Some(Duration::ZERO)).unwrap().count()
        }

        fn logged(&self) -> String {
            let log = std::fs::read_to_string(&self.path).unwrap();
            log.lines()
                .map(|line| line.split_once("stdout ").unwrap().1)
                .collect::<Vec<_>>()
                .join("|")
        }
    }

    #[test]
    fn what_is_said_is_logged_until_the_end() {
        let mut s = scene();
        rustix::io::write(&s.writer, b"one\ntwo").unwrap();
        assert_eq!(s.ready(), 1);
        assert_eq!(
            s.output.take(&s.poll, Stream::Stdout, &mut s.buffer, 0),
            None
        );
        assert_eq!(s.ready(), 0);
        assert_eq!(s.logged(), "F one");
        drop(s.writer);
        s.writer = pipe_with(PipeFlags::CLOEXEC).unwrap().1;
        assert_eq!(s.ready(), 1);
        assert_eq!(
            s.output.take(&s.poll, Stream::Stdout, &mut s.buffer, 0),
            None
        );
        assert_eq!(s.ready(), 0);
        assert_eq!(s.logged(), "F one|P two");
    }

    #[test]
    fn a_pipe_that_somebody_keeps_open_is_emptied_and_closed() {
        let mut s = scene();
        rustix::io::write(&s.writer, b"last\nwords").unwrap();
        assert!(s.output.finish(&s.poll, &mut s.buffer, 0).is_empty());
        assert_eq!(s.logged(), "F last|P words");
        assert_eq!(rustix::io::write(&s.writer, b"more"), Err(Errno::PIPE));
        assert_eq!(s.ready(), 0);
    }

    #[test]
    fn without_a_log_output_is_dropped() {
        let mut s = scene();
        s.output.log = None;
        rustix::io::write(&s.writer, b"nobody\n").unwrap();
        assert_eq!(
            s.output.take(&s.poll, Stream::Stdout, &mut s.buffer, 0),
            None
        );
        assert_eq!(s.ready(), 0);
        assert_eq!(s.logged(), "");
    }
}
