//! A client's connection.
//!
//! It is watched for room to write only while a write waits for it. A client that reads its answer makes
//! room each time, so a [`UnixStream`], which is always watched for both, would wake the daemon once more
//! for each call, for nothing. So would what grpc-go asks after each answer ([`Estimate`]).

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::Shutdown;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

use super::estimate::Estimate;
use crate::watch::watch;

/// One that was accepted.
#[derive(Debug)]
pub(super) struct Connection {
    /// Watched for something to read.
    socket: AsyncFd<OwnedFd>,
    /// The same socket, watched for room, while a write waits for it. That takes a descriptor: a daemon
    /// that has none left loses a client that does not read.
    full: Option<AsyncFd<OwnedFd>>,
    estimate: Estimate,
}

impl Connection {
    /// Fails when it cannot be watched.
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        let socket = OwnedFd::from(socket.into_std()?);
        Ok(Self {
            socket: watch(socket, Interest::READABLE)?,
            full: None,
            estimate: Estimate::default(),
        })
    }

    /// Sends frames, or some of their bytes, after what is due before them.
    fn poll_frames(
        &mut self,
        context: &mut Context<'_>,
        frames: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = frames.first().map_or(&[][..], |slice| slice);
        loop {
            let due = self.estimate.due(first);
            if due.is_empty() {
                let sent = ready!(self.poll_send(context, frames))?;
                let length: usize = frames.iter().map(|slice| slice.len()).sum();
                self.estimate.written(sent == length);
                return Poll::Ready(Ok(sent));
            }
            let sent = ready!(self.poll_send(context, &[IoSlice::new(due)]))?;
            self.estimate.sent(sent);
        }
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let space = match &self.full {
                Some(full) => Some(ready!(full.poll_write_ready(context))?),
                None => None,
            };
            match (rustix::io::writev(self.socket.get_ref(), slices), space) {
                (Err(Errno::INTR), _) => {}
                (Err(Errno::AGAIN), Some(mut space)) => space.clear_ready(),
                (Err(Errno::AGAIN), None) => {
                    let socket = self.socket.get_ref().try_clone()?;
                    self.full = Some(watch(socket, Interest::WRITABLE)?);
                }
                (sent, _) => {
                    self.full = None;
                    return Poll::Ready(Ok(sent?));
                }
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            match rustix::io::read(self.socket.get_ref(), &mut *room) {
                Ok(read) => {
                    // Less than there was room for is all that there was: what comes next is told.
                    if read > 0 && read < room.len() {
                        ready.clear_ready();
                    }
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [bytes] = slices
            && self.estimate.takes(bytes)
        {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.poll_frames(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = rustix::net::shutdown(self.socket.get_ref(), Shutdown::Write);
        Poll::Ready(Ok(done?))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, RawFd};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// More than a socket holds.
    const MUCH: usize = 4 << 20;

    fn pair() -> (Connection, UnixStream) {
        let (ours, client) = UnixStream::pair().unwrap();
        (Connection::new(ours).unwrap(), client)
    }

    /// What epoll watches `fd` for (proc_pid_fdinfo(5)).
    fn watched_for(fd: RawFd) -> u32 {
        let files = std::fs::read_dir("/proc/self/fdinfo").unwrap();
        let texts = files.filter_map(|f| std::fs::read_to_string(f.unwrap().path()).ok());
        let events = texts.flat_map(|text| {
            let of_fd = |line: &str| {
                let mut words = line.split_whitespace();
                let ours = words.next()? == "tfd:" && words.next()?.parse() == Ok(fd);
                ours.then(|| u32::from_str_radix(words.nth(1)?, 16).ok())?
            };
            text.lines().filter_map(of_fd).collect::<Vec<_>>()
        });
        events.fold(0, |all, events| all | events)
    }

    #[tokio::test]
    async fn a_client_that_reads_wakes_nobody() {
        let (mut connection, mut client) = pair();
        let epollout = 0x4;
        let fd = connection.socket.get_ref().as_raw_fd();
        assert_ne!(watched_for(client.as_raw_fd()) & epollout, 0);
        connection.write_all(b"answer").await.unwrap();
        client.read_exact(&mut [0; 6]).await.unwrap();
        assert_ne!(watched_for(fd), 0);
        assert_eq!(watched_for(fd) & epollout, 0);
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_for_a_slow_client() {
        let (mut connection, mut client) = pair();
        let sent: Vec<u8> = (0..MUCH).map(|i| (i % 251) as u8).collect();
        let send = async {
            connection.write_all(&sent).await.unwrap();
            assert!(connection.full.is_none());
            connection.shutdown().await.unwrap();
        };
        let receive = async {
            let mut received = Vec::new();
            while client.read_buf(&mut received).await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            received
        };
        let ((), received) = tokio::join!(send, receive);
        assert!(received == sent);
    }

    #[tokio::test]
    async fn everything_a_client_sends_is_read_to_its_end() {
        let (mut connection, mut client) = pair();
        let send = tokio::spawn(async move {
            client.write_all(b"begin").await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            client.write_all(&[7; MUCH]).await.unwrap();
        });
        let mut received = Vec::new();
        connection.read_to_end(&mut received).await.unwrap();
        send.await.unwrap();
        assert_eq!(received.len(), b"begin".len() + MUCH);
        assert!(received.starts_with(b"begin\x07"));
    }

    #[tokio::test]
    async fn a_client_is_heard_while_a_write_waits_for_it() {
        let (connection, mut client) = pair();
        let (mut reads, mut writes) = tokio::io::split(connection);
        let write = tokio::spawn(async move { writes.write_all(&[7; MUCH]).await });
        let mut asked = [0; 5];
        client.read_exact(&mut [0; 5]).await.unwrap();
        client.write_all(b"again").await.unwrap();
        reads.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"again");
        assert!(!write.is_finished());
        drop(client);
        let written = write.await.unwrap();
        let kinds = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        assert!(kinds.contains(&written.unwrap_err().kind()));
    }

    /// A frame with 1 KiB of content.
    fn frame(kind: u8) -> Vec<u8> {
        let head = [0, 4, 0, kind, 0, 0, 0, 0, 1];
        [&head[..], &[kind; 1024]].concat()
    }

    #[tokio::test]
    async fn an_estimate_is_answered_between_frames_of_which_none_goes_on_with_another() {
        let (data, headers, ping, continuation) = (0, 1, 6, 9);
        let (mut connection, mut client) = pair();
        let answer = [0, 0, 8, ping, 1, 0, 0, 0, 0, 2, 4, 16, 16, 9, 14, 7, 7];
        let mut kinds = vec![data];
        kinds.extend([headers, continuation].repeat(MUCH / 2048));
        let send = async {
            connection.write_all(&answer).await.unwrap();
            for &kind in &kinds {
                connection.write_all(&frame(kind)).await.unwrap();
            }
            connection.shutdown().await.unwrap();
        };
        let receive = async {
            let mut received = Vec::new();
            while client.read_buf(&mut received).await.unwrap() > 0 {
                tokio::task::yield_now().await;
            }
            received
        };
        let ((), received) = tokio::join!(send, receive);
        let (mut rest, mut heard) = (&received[..], Vec::new());
        while let Some(kind) = rest.get(3) {
            let length = 9 + usize::from(rest[1]) * 256 + usize::from(rest[2]);
            heard.push(*kind);
            rest = &rest[length..];
        }
        let at = heard.iter().position(|&kind| kind == ping).unwrap();
        // The hundredth write has headers, whose other half goes first.
        assert_eq!(at, 101);
        heard.remove(at);
        assert_eq!(heard, kinds);
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_an_error() {
        let (mut connection, client) = pair();
        drop(client);
        let written = connection.write_all(b"answer").await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
