//! Whether a client is still there.
//!
//! A client has gone when its socket says so, even while nobody reads from it; and when nothing
//! has come from it or gone to it for as long as the configuration has patience.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Silence after which the client's machine is asked whether it is there, how often it is asked
/// in vain, and the pause between: a machine that vanished is noticed within a minute.
const ASK_AFTER: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_secs(10);
const ASK_TIMES: u32 = 3;

/// A client's socket, watched.
#[derive(Debug)]
pub(crate) struct Presence {
    /// Another descriptor of the socket: the first is within whatever reads it.
    socket: TcpStream,
    activity: Arc<Activity>,
    /// Longest time without a byte.
    idle: Duration,
}

/// Why a client is taken to have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the client has hung up")]
    HungUp,
    #[error("nothing was said for too long")]
    Idle,
}

impl Presence {
    /// Watches a connected socket, and has the kernel ask for a client that is silent.
    pub(crate) fn new(socket: &TcpStream, idle: Duration) -> io::Result<Self> {
        let socket = std::net::TcpStream::from(socket.as_fd().try_clone_to_owned()?);
        rustix::net::sockopt::set_socket_keepalive(&socket, true)?;
        rustix::net::sockopt::set_tcp_keepidle(&socket, ASK_AFTER)?;
        rustix::net::sockopt::set_tcp_keepintvl(&socket, ASK_EVERY)?;
        rustix::net::sockopt::set_tcp_keepcnt(&socket, ASK_TIMES)?;
        Ok(Self {
            socket: TcpStream::from_std(socket)?,
            activity: Arc::new(Activity::new()),
            idle,
        })
    }

    /// The same connection, with its bytes noticed.
    pub(crate) fn notice<I>(&self, io: I) -> Noticed<I> {
        Noticed {
            io,
            activity: self.activity.clone(),
        }
    }

    /// Waits until the client has gone.
    pub(crate) async fn lost(&self) -> Lost {
        tokio::select! {
            () = self.hung_up() => Lost::HungUp,
            () = self.fell_silent() => Lost::Idle,
        }
    }

    async fn hung_up(&self) {
        while let Ok(state) = self
            .socket
            .ready(Interest::READABLE | Interest::ERROR)
            .await
        {
            if state.is_read_closed() || state.is_error() {
                return;
            }
            // Bytes, which are for somebody else: forgotten, so that the next readiness is news.
            let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = self.socket.try_io(Interest::READABLE, forget);
        }
    }

    async fn fell_silent(&self) {
        while let Some(left) = self.activity.left(Instant::now(), self.idle) {
            tokio::time::sleep(left).await;
        }
    }
}

/// When bytes last came or went.
#[derive(Debug)]
struct Activity {
    began: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn now(&self, now: Instant) {
        let since = now.saturating_duration_since(self.began).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    /// How much longer there may be silence; `None` when there was enough of it.
    fn left(&self, now: Instant, idle: Duration) -> Option<Duration> {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        let silence = now.saturating_duration_since(self.began + last);
        idle.checked_sub(silence).filter(|left| !left.is_zero())
    }
}

/// A connection whose bytes are noticed.
#[derive(Debug)]
pub(crate) struct Noticed<I> {
    io: I,
    activity: Arc<Activity>,
}

impl<I> Noticed<I> {
    fn noticed<T>(&self, polled: Poll<T>) -> Poll<T> {
        if polled.is_ready() {
            self.activity.now(Instant::now());
        }
        polled
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Noticed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.noticed(polled)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Noticed<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.noticed(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const FOREVER: Duration = Duration::from_secs(24 * 3600);

    async fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        (client.unwrap(), listener.accept().await.unwrap().0)
    }

    #[test]
    fn silence_is_counted_from_the_last_byte() {
        let (activity, idle) = (Activity::new(), Duration::from_secs(10));
        let after = |seconds| activity.began + Duration::from_secs(seconds);
        assert_eq!(activity.left(after(0), idle), Some(idle));
        assert_eq!(activity.left(after(9), idle), Some(Duration::from_secs(1)));
        activity.now(after(9));
        assert_eq!(activity.left(after(10), idle), Some(Duration::from_secs(9)));
        assert_eq!(activity.left(after(19), idle), None);
        assert_eq!(activity.left(after(100), idle), None);
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_is_noticed_while_its_bytes_wait_unread() {
        let (mut client, server) = sockets().await;
        let presence = Presence::new(&server, FOREVER).unwrap();
        client.write_all(b"not read by anybody").await.unwrap();
        server.readable().await.unwrap();
        drop(client);
        assert_eq!(presence.lost().await, Lost::HungUp);
    }

    #[tokio::test]
    async fn a_client_that_resets_its_connection_is_noticed() {
        let (client, server) = sockets().await;
        let presence = Presence::new(&server, FOREVER).unwrap();
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(presence.lost().await, Lost::HungUp);
    }

    #[tokio::test]
    async fn the_kernel_asks_for_a_silent_client() {
        let (_client, server) = sockets().await;
        let _presence = Presence::new(&server, FOREVER).unwrap();
        assert!(rustix::net::sockopt::socket_keepalive(&server).unwrap());
        assert_eq!(
            rustix::net::sockopt::tcp_keepidle(&server).unwrap(),
            ASK_AFTER
        );
    }
}
