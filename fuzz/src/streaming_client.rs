//! What a client of the streaming server sends once its connection is upgraded.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use skiff_streaming::{Exit, Job, Pipes, Ports, Server, Settings, Streams, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// How long the server is listened to: it answers within it, or waits for more.
const LISTEN: Duration = Duration::from_millis(1);

thread_local! {
    static HOST: Host = Host::start();
}

struct Host {
    runtime: Runtime,
    server: Server,
    /// Of a server that sends everything back.
    port: u16,
}

/// Bytes over an upgraded connection; the first says to what it is upgraded. The server survives,
/// and speaks HTTP before anything else.
pub fn streaming_client(data: &[u8]) {
    let Some((kind, wire)) = data.split_first() else {
        return;
    };
    HOST.with(|host| host.runtime.block_on(host.visit(*kind, wire)));
}

impl Host {
    fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (server, port) = runtime.block_on(async {
            // Ignored in every Rust program but one whose main function is the engine's.
            let _ = signal(SignalKind::pipe());
            let settings = Settings {
                address: ([127, 0, 0, 1], 0).into(),
                tls: None,
                timeouts: Timeouts::default(),
            };
            let server = Server::start(&settings).expect("listen on loopback");
            (server, echo().await)
        });
        Self {
            runtime,
            server,
            port,
        }
    }

    async fn visit(&self, kind: u8, wire: &[u8]) {
        let (upgrade, protocol, is_command) = [
            ("SPDY/3.1", "v4.channel.k8s.io", true),
            ("SPDY/3.1", "channel.k8s.io", true),
            ("SPDY/3.1", "portforward.k8s.io", false),
            ("websocket", "v5.channel.k8s.io", true),
            ("websocket", "v4.base64.channel.k8s.io", true),
            ("websocket", "SPDY/3.1+portforward.k8s.io", false),
            ("websocket", "v4.channel.k8s.io", false),
        ][usize::from(kind) % 7];
        let job = if is_command {
            command()
        } else {
            let ports = Arc::new(Loopback(self.port));
            let listed = vec![self.port, self.port];
            Job::Forward { ports, listed }
        };
        let url = self.server.url(job).expect("few wait");
        let (address, path) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .expect("a URL of HTTP");
        let mut socket = TcpStream::connect(address).await.expect("connect");
        let head = format!(
            "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: {upgrade}\r\nX-Stream-Protocol-Version: {protocol}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.expect("ask");
        let mut said = [0; 12];
        socket.read_exact(&mut said).await.expect("an answer");
        assert_eq!(&said, b"HTTP/1.1 101");
        // The server may have had enough of it before its end.
        let _ = socket.write_all(wire).await;
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(LISTEN, socket.read_to_end(&mut rest)).await;
    }
}

/// Runs until it is known that its terminal's size does not change any more.
fn command() -> Job {
    let streams = Streams {
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    Job::Command {
        streams,
        burst: 0,
        command: Box::new(|mut pipes: Pipes| {
            Box::pin(async move {
                while pipes.resizes.next().await.is_some() {}
                Exit::Code(0)
            })
        }),
    }
}

async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.into_split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    port
}

/// A pod with one port.
struct Loopback(u16);

impl Ports for Loopback {
    fn dial(
        &self,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = Result<TcpStream, String>> + Send + '_>> {
        Box::pin(async move {
            if port % 2 == 1 {
                return Err("refused".into());
            }
            let connected = TcpStream::connect(("127.0.0.1", self.0)).await;
            connected.map_err(|e| e.to_string())
        })
    }
}
