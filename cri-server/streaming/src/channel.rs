//! Several streams over one connection, whatever carries them.
//!
//! What comes from the client goes into a bounded queue per stream ([`Source`]): when one is full
//! nothing more is read from the connection, since neither protocol can tell the client to wait
//! with one stream only. How long that may last is what [`Full`] says. What goes to the client
//! ([`Sink`]) shares one bounded queue.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Parts that wait to be sent, per connection.
const QUEUE: usize = 4;
/// Longest part, in bytes.
pub(crate) const PART: usize = 16 << 10;

/// What happens when the queue of a stream is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// All streams wait for its reader: those of a command, which belong together.
    Wait,
    /// They wait so long, then the stream is given up: it has nothing to do with the others.
    GiveUp(Duration),
}

impl Full {
    /// How many parts a stream's queue holds. A part keeps up to [`PART`] bytes in memory.
    fn room(self) -> usize {
        match self {
            Self::Wait => 4,
            // 1 MiB, beside what the kernel holds for the reader.
            Self::GiveUp(_) => 64,
        }
    }
}

/// Why nothing more can come on a stream, nor go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    /// The client wants no more of it.
    Client,
    /// Its reader took nothing for as long as [`Full::GiveUp`] allows.
    Stalled,
}

/// What a client sends on one stream.
#[derive(Debug)]
pub(crate) struct Source {
    parts: mpsc::Receiver<Bytes>,
    reset: oneshot::Receiver<Reset>,
}

/// The connection's end of a [`Source`].
#[derive(Debug)]
pub(crate) struct Feed {
    parts: Option<mpsc::Sender<Bytes>>,
    reset: oneshot::Sender<Reset>,
    full: Full,
}

/// A stream, and its feed.
pub(crate) fn source(full: Full) -> (Feed, Source) {
    let (feed, parts) = mpsc::channel(full.room());
    let (reset, was_reset) = oneshot::channel();
    let feed = Feed {
        parts: Some(feed),
        reset,
        full,
    };
    let source = Source {
        parts,
        reset: was_reset,
    };
    (feed, source)
}

impl Source {
    /// The next part; `None` at the end, or when the client has gone.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.parts.recv().await
    }

    /// The parts, and what resolves when the stream is reset, or to an error when the client has
    /// gone.
    pub(crate) fn split(self) -> (mpsc::Receiver<Bytes>, oneshot::Receiver<Reset>) {
        (self.parts, self.reset)
    }
}

impl Feed {
    /// Passes a part on; waits for room. What nobody reads is dropped. `false`: the stream is to
    /// be reset as [`Reset::Stalled`].
    pub(crate) async fn send(&self, part: Bytes) -> bool {
        let Some(parts) = self.parts.as_ref().filter(|_| !part.is_empty()) else {
            return true;
        };
        let sending = parts.send(part);
        match self.full {
            Full::Wait => drop(sending.await),
            Full::GiveUp(after) => return tokio::time::timeout(after, sending).await.is_ok(),
        }
        true
    }

    /// The client sends no more on this stream.
    pub(crate) fn end(&mut self) {
        self.parts = None;
    }

    /// The stream is done with, in both directions.
    pub(crate) fn reset(self, why: Reset) {
        let _ = self.reset.send(why);
    }

    /// Nobody reads any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.reset.is_closed()
    }
}

/// Something to be sent to the client.
#[derive(Debug)]
pub(crate) enum Out {
    /// Bytes of a stream.
    Data { stream: u32, bytes: Bytes },
    /// A stream has ended on our side.
    End { stream: u32 },
    /// A stream has ended on both sides.
    Cancel { stream: u32 },
    /// All is said.
    Close,
}

/// A connection, as those that send over it see it.
#[derive(Debug, Clone)]
pub(crate) struct Line(mpsc::Sender<Out>);

/// A connection's line, and what is sent over it.
pub(crate) fn line() -> (Line, mpsc::Receiver<Out>) {
    let (sender, outs) = mpsc::channel(QUEUE);
    (Line(sender), outs)
}

/// A connection that ends when nobody can send over it any more.
#[derive(Debug)]
pub(crate) struct WeakLine(mpsc::WeakSender<Out>);

impl WeakLine {
    /// The line; `None` when nobody had it any more.
    pub(crate) fn line(&self) -> Option<Line> {
        self.0.upgrade().map(Line)
    }
}

impl Line {
    /// For those who must not keep the connection open.
    pub(crate) fn downgrade(&self) -> WeakLine {
        WeakLine(self.0.downgrade())
    }

    /// A stream to send on.
    pub(crate) fn sink(&self, stream: u32) -> Sink {
        Sink {
            line: self.clone(),
            stream,
        }
    }

    /// Waits until the client has gone.
    pub(crate) async fn gone(&self) {
        self.0.closed().await;
    }

    /// Ends the connection once everything is sent.
    pub(crate) async fn close(&self) {
        self.send(Out::Close).await;
    }

    async fn send(&self, out: Out) -> bool {
        self.0.send(out).await.is_ok()
    }
}

/// Where to send what belongs to one stream.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    line: Line,
    stream: u32,
}

impl Sink {
    /// Sends bytes, at most [`PART`]; waits for room. `false` when the client has gone.
    pub(crate) async fn send(&self, bytes: Bytes) -> bool {
        let stream = self.stream;
        self.line.send(Out::Data { stream, bytes }).await
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn end(&self) {
        let stream = self.stream;
        self.line.send(Out::End { stream }).await;
    }

    /// Says that the stream is of no use any more.
    pub(crate) async fn cancel(&self) {
        let stream = self.stream;
        self.line.send(Out::Cancel { stream }).await;
    }
}
