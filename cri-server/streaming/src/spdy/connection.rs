//! The streams of one SPDY connection.
//!
//! One task reads and writes at the same time: frames of the client are answered or passed to
//! their streams, and what the streams' users send is written in its order. The task ends, and
//! with it every stream, when the client closes, is lost or breaks the protocol. When our side is
//! done, or nobody has the connection or a stream of it any more, it says so and waits a little
//! for the client to close, so that nothing is lost on its way.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::frame::{Decoder, Frame, FrameError};
use super::header::{HeaderError, HeaderReader, HeaderWriter, Headers};
use crate::channel::{Feed, Full, Line, Out, PART, Reset, Sink, Source, WeakLine, line, source};
use crate::presence::{Lost, Presence};

/// Most streams open at once; a forwarded connection takes two.
const MAX_STREAMS: usize = 1024;
/// Streams that wait to be looked at, and answers that wait to be sent.
const QUEUE: usize = 16;
/// How long to wait for the client to close when all is said.
const LINGER: Duration = Duration::from_secs(5);

/// A connection: what a server of some protocol holds.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) line: Line,
    streams: mpsc::Receiver<Incoming>,
}

/// A stream that the client has opened.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) stream: u32,
    headers: Headers,
    pub(crate) source: Source,
    pub(crate) sink: Sink,
}

impl Connection {
    /// The next stream that the client opens; `None` when it has gone.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        self.streams.recv().await
    }
}

impl Incoming {
    /// A header's value, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("stream {0} opened out of order")]
    Order(u32),
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Serves a connection in a task of its own. `presence` is that of the client, unless somebody
/// else looks at it.
pub(crate) fn serve(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    presence: Option<Arc<Presence>>,
    full: Full,
) -> Connection {
    let (line, outs) = line();
    let (opened, streams) = mpsc::channel(QUEUE);
    let (answers, to_answer) = mpsc::channel(QUEUE);
    let reader = Reader {
        line: line.downgrade(),
        full,
        opened,
        answers,
        streams: HashMap::new(),
        last: 0,
        decoder: Decoder::default(),
        headers: HeaderReader::default(),
        replies: HeaderWriter::default(),
    };
    tokio::spawn(run(io, presence, reader, outs, to_answer));
    Connection { line, streams }
}

async fn run(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    presence: Option<Arc<Presence>>,
    reader: Reader,
    outs: mpsc::Receiver<Out>,
    to_answer: mpsc::Receiver<Frame>,
) {
    let (input, output) = tokio::io::split(io);
    let mut reading = std::pin::pin!(reader.run(input));
    let ended = tokio::select! {
        // First what the client said before it went.
        biased;
        ended = &mut reading => ended,
        written = write(output, outs, to_answer) => match written {
            Ok(()) => tokio::time::timeout(LINGER, reading).await.unwrap_or(Ok(())),
            Err(e) => Err(e.into()),
        },
        lost = lost(presence.as_deref()) => Err(lost.into()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a SPDY connection is closed");
    }
}

async fn lost(presence: Option<&Presence>) -> Lost {
    match presence {
        Some(presence) => presence.lost().await,
        None => std::future::pending().await,
    }
}

struct Reader {
    line: WeakLine,
    full: Full,
    opened: mpsc::Sender<Incoming>,
    answers: mpsc::Sender<Frame>,
    streams: HashMap<u32, Feed>,
    /// The last stream that was opened.
    last: u32,
    decoder: Decoder,
    headers: HeaderReader,
    replies: HeaderWriter,
}

impl Reader {
    /// Reads until the client closes.
    async fn run(mut self, input: impl AsyncRead) -> Result<(), Broken> {
        let mut input = std::pin::pin!(input);
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PART);
            let mut room = (&mut input).take(PART as u64);
            if room.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            while let Some(frame) = self.decoder.next(&mut buffer)? {
                self.handle(frame).await?;
            }
        }
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), Broken> {
        match frame {
            Frame::SynStream {
                stream,
                fin,
                headers,
            } => {
                let headers = self.headers.read(&headers)?;
                self.open(stream, fin, headers).await?;
            }
            Frame::Data { stream, fin, bytes } => self.data(stream, fin, bytes).await,
            Frame::Reset { stream, .. } => {
                if let Some(feed) = self.streams.remove(&stream) {
                    feed.reset(Reset::Client);
                }
            }
            // The client's have odd numbers; one of ours would be an answer.
            Frame::Ping(id) if id % 2 == 1 => self.answer(Frame::Ping(id)).await,
            Frame::SynReply { headers, .. } => drop(self.headers.read(&headers)?),
            Frame::Headers {
                stream,
                fin,
                headers,
            } => {
                self.headers.read(&headers)?;
                self.data(stream, fin, Bytes::new()).await;
            }
            Frame::Ping(_) | Frame::GoAway { .. } | Frame::Other => {}
        }
        Ok(())
    }

    async fn open(&mut self, stream: u32, fin: bool, headers: Headers) -> Result<(), Broken> {
        if stream.is_multiple_of(2) || stream <= self.last {
            return Err(Broken::Order(stream));
        }
        self.last = stream;
        self.streams.retain(|_, feed| !feed.is_abandoned());
        let status = Frame::REFUSED;
        let line = self.line.line().filter(|_| !self.opened.is_closed());
        let Some(line) = line.filter(|_| self.streams.len() < MAX_STREAMS) else {
            self.answer(Frame::Reset { stream, status }).await;
            return Ok(());
        };
        let (mut feed, source) = source(self.full);
        if fin {
            feed.end();
        }
        let incoming = Incoming {
            stream,
            headers,
            source,
            sink: line.sink(stream),
        };
        // Before anybody can send on it: answers are written first.
        let headers = self.replies.write(&Headers::new()).into();
        self.answer(Frame::SynReply { stream, headers }).await;
        self.streams.insert(stream, feed);
        if self.opened.send(incoming).await.is_err() {
            self.streams.remove(&stream);
            self.answer(Frame::Reset { stream, status }).await;
        }
        Ok(())
    }

    async fn data(&mut self, stream: u32, fin: bool, bytes: Bytes) {
        match self.streams.get_mut(&stream) {
            Some(feed) => {
                if !feed.send(bytes).await {
                    return self.give_up(stream).await;
                }
                if fin {
                    feed.end();
                }
            }
            // One that has ended may have been written to before the client heard of it.
            None if stream <= self.last && !stream.is_multiple_of(2) => {}
            None => {
                let status = Frame::INVALID_STREAM;
                self.answer(Frame::Reset { stream, status }).await;
            }
        }
    }

    /// Nobody takes what comes on a stream: the client is told not to send more of it.
    async fn give_up(&mut self, stream: u32) {
        if let Some(feed) = self.streams.remove(&stream) {
            feed.reset(Reset::Stalled);
        }
        let status = Frame::CANCEL;
        self.answer(Frame::Reset { stream, status }).await;
    }

    async fn answer(&self, frame: Frame) {
        // When all is said nobody writes answers any more.
        let _ = self.answers.send(frame).await;
    }
}

/// Writes what is to be sent, until all is said.
async fn write(
    output: impl AsyncWrite,
    mut outs: mpsc::Receiver<Out>,
    mut answers: mpsc::Receiver<Frame>,
) -> io::Result<()> {
    let mut output = std::pin::pin!(output);
    let mut wire = BytesMut::new();
    loop {
        let out = tokio::select! {
            biased;
            Some(answer) = answers.recv() => {
                answer.write(&mut wire);
                output.write_all_buf(&mut wire).await?;
                output.flush().await?;
                continue;
            }
            out = outs.recv() => out.unwrap_or(Out::Close),
        };
        let frame = match out {
            Out::Data { stream, bytes } => Frame::Data {
                stream,
                fin: false,
                bytes,
            },
            Out::End { stream } => Frame::Data {
                stream,
                fin: true,
                bytes: Bytes::new(),
            },
            Out::Cancel { stream } => Frame::Reset {
                stream,
                status: Frame::CANCEL,
            },
            Out::Close => Frame::GoAway { last: 0, status: 0 },
        };
        frame.write(&mut wire);
        output.write_all_buf(&mut wire).await?;
        output.flush().await?;
        if matches!(frame, Frame::GoAway { .. }) {
            return output.shutdown().await;
        }
    }
}
