//! Several streams over one connection, whatever carries them.
//!
//! What comes from the client goes into a bounded queue per stream ([`Source`]): when one is full
//! nothing more is read from the connection, since neither protocol can tell the client to wait
//! with one stream only. What goes to the client ([`Sink`]) shares one bounded queue.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Parts that wait for their reader, per stream, and parts that wait to be sent, per connection.
const QUEUE: usize = 4;
/// Longest part, in bytes.
pub(crate) const PART: usize = 16 << 10;

/// What a client sends on one stream.
#[derive(Debug)]
pub(crate) struct Source {
    parts: mpsc::Receiver<Bytes>,
    reset: oneshot::Receiver<()>,
}

/// The connection's end of a [`Source`].
#[derive(Debug)]
pub(crate) struct Feed {
    parts: Option<mpsc::Sender<Bytes>>,
    reset: oneshot::Sender<()>,
}

/// A stream, and its feed.
pub(crate) fn source() -> (Feed, Source) {
    let (feed, parts) = mpsc::channel(QUEUE);
    let (reset, was_reset) = oneshot::channel();
    let feed = Feed {
        parts: Some(feed),
        reset,
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

    /// The parts, and what resolves when the client wants nothing more of the stream or has gone.
    pub(crate) fn split(self) -> (mpsc::Receiver<Bytes>, oneshot::Receiver<()>) {
        (self.parts, self.reset)
    }
}

impl Feed {
    /// Passes a part on; waits for room. What nobody reads is dropped.
    pub(crate) async fn send(&self, part: Bytes) {
        if let Some(parts) = self.parts.as_ref().filter(|_| !part.is_empty()) {
            let _ = parts.send(part).await;
        }
    }

    /// The client sends no more on this stream.
    pub(crate) fn end(&mut self) {
        self.parts = None;
    }

    /// The client is done with this stream, in both directions.
    pub(crate) fn reset(self) {
        let _ = self.reset.send(());
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

impl Line {
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
