//! Several streams over WebSocket messages, and a plain stream of bytes over them.
//!
//! The first byte of a message is the number of its stream. In the base64 variants a message is
//! text: the number is a digit, and base64 follows.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::channel::{Feed, Full, Line, Out, PART, Reset, Source, line, source};
use crate::presence::Presence;

/// Longest message that is read, in bytes; clients send some 32 KiB at a time.
const MAX_MESSAGE: usize = 1 << 20;
/// A message of this stream says that the stream named in it has ended.
const CLOSE: u8 = 255;
/// How long to wait for the client to close when all is said.
const LINGER: Duration = Duration::from_secs(5);

/// How bytes become messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// As they are.
    Binary,
    /// As text.
    Base64,
}

/// What a channel protocol is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channels {
    pub(crate) framing: Framing,
    /// Clients can say that a stream has ended.
    pub(crate) half_close: bool,
}

/// A connection with its streams, by number.
pub(crate) struct Connection {
    pub(crate) line: Line,
    /// `None` where the client has nothing to send.
    pub(crate) sources: Vec<Option<Source>>,
}

async fn open<I: AsyncRead + AsyncWrite + Unpin>(io: I) -> WebSocketStream<I> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Serves a connection, whose handshake is done, in a task of its own. `readable` says which
/// streams the client may send on.
pub(crate) async fn serve<I>(
    io: I,
    presence: Arc<Presence>,
    channels: Channels,
    readable: &[bool],
    full: Full,
) -> Connection
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (line, outs) = line();
    let (feeds, sources): (Vec<_>, Vec<_>) = readable
        .iter()
        .map(|readable| readable.then(|| source(full)).unzip())
        .unzip();
    let (output, input) = open(io).await.split();
    tokio::spawn(async move {
        let mut reading = std::pin::pin!(read(input, channels, feeds));
        let ended = tokio::select! {
            // First what the client said before it went.
            biased;
            ended = &mut reading => ended,
            written = write(output, outs, channels.framing) => match written {
                Ok(()) => tokio::time::timeout(LINGER, reading).await.unwrap_or(Ok(())),
                Err(e) => Err(e),
            },
            lost = presence.lost() => Err(Error::Io(io::Error::other(lost))),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a WebSocket connection is closed");
        }
    });
    Connection { line, sources }
}

/// Reads until the client closes.
async fn read<I: AsyncRead + AsyncWrite + Unpin>(
    mut input: SplitStream<WebSocketStream<I>>,
    channels: Channels,
    mut feeds: Vec<Option<Feed>>,
) -> Result<(), Error> {
    while let Some(message) = input.next().await {
        let Some((stream, bytes)) = decode(message?, channels.framing) else {
            continue;
        };
        if stream == CLOSE && channels.half_close {
            let ended = bytes.first().and_then(|s| feeds.get_mut(usize::from(*s)));
            if let Some(Some(feed)) = ended {
                feed.end();
            }
        } else if let Some(slot) = feeds.get_mut(usize::from(stream))
            && let Some(feed) = slot.take()
        {
            if feed.send(bytes).await {
                *slot = Some(feed);
            } else {
                feed.reset(Reset::Stalled);
            }
        }
    }
    Ok(())
}

/// The stream and the bytes of a message; `None` for one that has none.
fn decode(message: Message, framing: Framing) -> Option<(u8, Bytes)> {
    match (message, framing) {
        (Message::Binary(bytes), _) => Some((*bytes.first()?, bytes.slice(1..))),
        (Message::Text(text), Framing::Base64) => {
            let (stream, encoded) = text.as_bytes().split_first()?;
            let stream = stream.checked_sub(b'0')?;
            Some((stream, STANDARD.decode(encoded).ok()?.into()))
        }
        _ => None,
    }
}

fn encode(stream: u8, bytes: &[u8], framing: Framing) -> Message {
    match framing {
        Framing::Binary => Message::binary([&[stream], bytes].concat()),
        Framing::Base64 => {
            let mut text = String::from(char::from(b'0' + stream));
            STANDARD.encode_string(bytes, &mut text);
            Message::text(text)
        }
    }
}

/// Writes what is to be sent, until all is said.
async fn write<I: AsyncRead + AsyncWrite + Unpin>(
    mut output: SplitSink<WebSocketStream<I>, Message>,
    mut outs: mpsc::Receiver<Out>,
    framing: Framing,
) -> Result<(), Error> {
    while let Some(out) = outs.recv().await {
        match out {
            Out::Data { stream, bytes } => {
                // Streams are numbered by us.
                let stream = u8::try_from(stream).unwrap_or(CLOSE);
                output.send(encode(stream, &bytes, framing)).await?;
            }
            // There is no way to say so; the close of the connection says it for all streams.
            Out::End { .. } | Out::Cancel { .. } => {}
            Out::Close => break,
        }
    }
    say_goodbye(&mut output).await
}

async fn say_goodbye<I: AsyncRead + AsyncWrite + Unpin>(
    output: &mut SplitSink<WebSocketStream<I>, Message>,
) -> Result<(), Error> {
    let goodbye = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    output.send(Message::Close(Some(goodbye))).await
}

/// A stream of bytes that is carried by binary messages, in a task of its own.
pub(crate) async fn tunnel<I>(io: I, presence: Arc<Presence>) -> DuplexStream
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (ours, theirs) = tokio::io::duplex(4 * PART);
    let (mut output, mut input) = open(io).await.split();
    let (mut from, mut to) = tokio::io::split(theirs);
    tokio::spawn(async move {
        let reading = async {
            while let Some(Ok(message)) = input.next().await {
                if let Message::Binary(bytes) = message
                    && to.write_all(&bytes).await.is_err()
                {
                    break;
                }
            }
        };
        let writing = async {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(PART);
                match from.read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
                let message = Message::Binary(buffer.split().freeze());
                if output.send(message).await.is_err() {
                    return;
                }
            }
            let _ = say_goodbye(&mut output).await;
        };
        let mut reading = std::pin::pin!(reading);
        tokio::select! {
            biased;
            () = &mut reading => {}
            () = writing => drop(tokio::time::timeout(LINGER, reading).await),
            lost = presence.lost() => tracing::debug!(%lost, "a WebSocket tunnel is closed"),
        }
    });
    ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back() {
        for framing in [Framing::Binary, Framing::Base64] {
            for bytes in [&b""[..], b"x", b"\x00\xff and more"] {
                let (stream, back) = decode(encode(3, bytes, framing), framing).unwrap();
                assert_eq!((stream, &back[..]), (3, bytes));
            }
        }
        assert_eq!(
            encode(1, b"hello", Framing::Base64),
            Message::text("1aGVsbG8=")
        );
    }

    #[test]
    fn messages_that_make_no_sense_are_dropped() {
        for message in ["", "/AA==", "1*"] {
            assert!(decode(Message::text(message), Framing::Base64).is_none());
        }
        assert!(decode(Message::text("1AA=="), Framing::Binary).is_none());
        assert!(decode(Message::binary(Vec::new()), Framing::Binary).is_none());
    }
}
