//! Clients, and what they connect to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use skiff_streaming::spdy::{Decoder, Frame, HeaderWriter, Headers};
use skiff_streaming::{Command, Exit, Job, Pipes, Server, Settings, Streams, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// No answer takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn server() -> Server {
    server_with(Timeouts::default())
}

pub(crate) fn server_with(timeouts: Timeouts) -> Server {
    let settings = Settings {
        address: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        timeouts,
    };
    Server::start(&settings).unwrap()
}

/// A job that runs `command` with these streams.
pub(crate) fn job<F, R>(streams: Streams, command: F) -> Job
where
    F: FnOnce(Pipes) -> R + Send + 'static,
    R: Future<Output = Exit> + Send + 'static,
{
    let command: Command = Box::new(move |pipes| Box::pin(command(pipes)));
    Job::Command {
        streams,
        burst: 0,
        command,
    }
}

pub(crate) const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

/// What a server answered to a request, and the connection.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) socket: TcpStream,
}

/// Sends a request to a URL with these headers.
pub(crate) async fn request(url: &str, headers: &[(&str, &str)]) -> Answer {
    let (address, path) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let mut text = format!("POST /{path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let text = text.replace(
        "POST",
        if text.contains("websocket") {
            "GET"
        } else {
            "POST"
        },
    );
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    Answer {
        status: head[9..12].parse().unwrap(),
        head,
        socket,
    }
}

/// A SPDY client.
pub(crate) struct Spdy {
    socket: TcpStream,
    decoder: Decoder,
    buffer: BytesMut,
    headers: HeaderWriter,
    next: u32,
    /// What came on each stream, and whether it has ended.
    pub(crate) came: HashMap<u32, (Vec<u8>, bool)>,
    /// Streams that were reset.
    pub(crate) resets: Vec<(u32, u32)>,
    pub(crate) pings: Vec<u32>,
    pub(crate) closed: bool,
}

impl Spdy {
    pub(crate) async fn connect(url: &str, version: &str) -> Self {
        let answer = request(
            url,
            &[
                ("Connection", "Upgrade"),
                ("Upgrade", "SPDY/3.1"),
                ("X-Stream-Protocol-Version", version),
            ],
        )
        .await;
        assert_eq!(answer.status, 101, "{}", answer.head);
        assert!(
            answer.head.to_lowercase().contains(version),
            "{}",
            answer.head
        );
        Self::over(answer.socket)
    }

    pub(crate) fn over(socket: TcpStream) -> Self {
        Self {
            socket,
            decoder: Decoder::default(),
            buffer: BytesMut::new(),
            headers: HeaderWriter::default(),
            next: 1,
            came: HashMap::new(),
            resets: Vec::new(),
            pings: Vec::new(),
            closed: false,
        }
    }

    pub(crate) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let stream = self.next;
        self.next += 2;
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        let headers: Headers = headers.iter().map(owned).collect();
        let headers = self.headers.write(&headers).into();
        self.send(&Frame::SynStream {
            stream,
            fin: false,
            headers,
        })
        .await;
        stream
    }

    /// Opens the streams of a command; returns their numbers by name.
    pub(crate) async fn streams(&mut self, names: &[&'static str]) -> HashMap<&'static str, u32> {
        let mut streams = HashMap::new();
        for name in names {
            streams.insert(*name, self.open(&[("streamtype", name)]).await);
        }
        streams
    }

    pub(crate) async fn data(&mut self, stream: u32, bytes: &[u8], fin: bool) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.send(&Frame::Data { stream, fin, bytes }).await;
    }

    pub(crate) async fn send(&mut self, frame: &Frame) {
        let mut wire = BytesMut::new();
        frame.write(&mut wire);
        self.socket.write_all(&wire).await.unwrap();
    }

    /// Takes what comes until `done` says that it is enough, or the server closes.
    pub(crate) async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let taking = async {
            while !done(self) && !self.closed {
                self.closed |= self.socket.read_buf(&mut self.buffer).await.unwrap() == 0;
                while let Some(frame) = self.decoder.next(&mut self.buffer).unwrap() {
                    self.take(frame);
                }
            }
        };
        tokio::time::timeout(PATIENCE, taking)
            .await
            .expect("the server is silent");
    }

    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Data { stream, fin, bytes } => {
                let came = self.came.entry(stream).or_default();
                assert!(!came.1, "data after the end of stream {stream}");
                came.0.extend_from_slice(&bytes);
                came.1 = fin;
            }
            Frame::Reset { stream, status } => self.resets.push((stream, status)),
            Frame::Ping(id) => self.pings.push(id),
            _ => {}
        }
    }

    pub(crate) fn has_ended(&self, stream: u32) -> bool {
        self.came.get(&stream).is_some_and(|(_, ended)| *ended)
    }

    pub(crate) fn text(&self, stream: u32) -> String {
        let came = self.came.get(&stream).map(|(bytes, _)| bytes.clone());
        String::from_utf8(came.unwrap_or_default()).unwrap()
    }
}

/// A WebSocket client that speaks one of these protocols.
pub(crate) async fn websocket(url: &str, protocol: &str) -> WebSocketStream<TcpStream> {
    let answer = request(
        url,
        &[
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", protocol),
        ],
    )
    .await;
    assert_eq!(answer.status, 101, "{}", answer.head);
    WebSocketStream::from_raw_socket(answer.socket, Role::Client, None).await
}
