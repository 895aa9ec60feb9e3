//! Port forwarding: connections of a client, each a pair of streams, to ports of a pod.
//!
//! Over SPDY a client opens a stream for errors and one for data, which it relates by a request
//! id; as many pairs as it likes, at any time. Over WebSocket channels there is one pair for each
//! port that the call named, data on the even channels and errors on the odd ones, and each begins
//! with the port's number in two bytes, the lower one first.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::channel::{Full, PART, Reset, Sink, Source};
use crate::presence::Presence;
use crate::spdy::Incoming;
use crate::upgrade::ForwardUpgrade;
use crate::{spdy, websocket};

/// Most streams that wait for their other halves.
const MOST_HALVES: usize = 64;

/// Who connects to ports of a pod.
pub trait Ports: Send + Sync {
    /// Connects to a port as a process of the pod would. The error is the whole story for the
    /// client.
    fn dial(
        &self,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = Result<TcpStream, String>> + Send + '_>>;
}

/// What to forward, and for how long.
pub(crate) struct Order {
    pub(crate) ports: Arc<dyn Ports>,
    pub(crate) listed: Vec<u16>,
    /// How long a stream may wait for its other half.
    pub(crate) creation: Duration,
    /// How long a server may take nothing while more than is kept for it comes.
    pub(crate) stall: Duration,
}

/// Forwards for the client at the other end of `io` until it goes.
pub(crate) async fn serve<I>(io: I, presence: Arc<Presence>, upgrade: ForwardUpgrade, order: Order)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let full = Full::GiveUp(order.stall);
    match upgrade {
        ForwardUpgrade::Spdy => pairs(spdy::serve(io, Some(presence), full), order).await,
        ForwardUpgrade::Tunnel => {
            let io = websocket::tunnel(io, presence).await;
            pairs(spdy::serve(io, None, full), order).await;
        }
        ForwardUpgrade::WebSocket(channels) => {
            let readable: Vec<bool> = order.listed.iter().flat_map(|_| [true, false]).collect();
            let connection = websocket::serve(io, presence, channels, &readable, full).await;
            over_channels(connection, order).await;
        }
    }
}

async fn over_channels(connection: websocket::Connection, order: Order) {
    let Order { ports, listed, .. } = order;
    let websocket::Connection { line, sources } = connection;
    let mut forwards = JoinSet::new();
    let data = sources.into_iter().step_by(2).flatten();
    for ((number, port), source) in (0..).zip(listed).zip(data) {
        let pair = Pair {
            port,
            source,
            data: line.sink(2 * number),
            error: line.sink(2 * number + 1),
        };
        let first = Bytes::copy_from_slice(&port.to_le_bytes());
        pair.data.send(first.clone()).await;
        pair.error.send(first).await;
        forwards.spawn(pair.forward(ports.clone()));
    }
    tokio::select! {
        () = line.gone() => {}
        () = async { while forwards.join_next().await.is_some() {} } => line.close().await,
    }
}

/// Half of a pair.
struct Half {
    incoming: Incoming,
    is_data: bool,
    until: Instant,
}

async fn pairs(mut connection: spdy::Connection, order: Order) {
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut forwards = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = connection.next() => incoming,
            () = grown_old(&halves) => {
                let now = Instant::now();
                for (_, half) in halves.extract_if(|_, half| half.until <= now) {
                    half.incoming.sink.cancel().await;
                }
                continue;
            }
        };
        let Some(incoming) = incoming else { return };
        while forwards.try_join_next().is_some() {}
        let Some((id, port, is_data)) = identify(&incoming) else {
            incoming.sink.cancel().await;
            continue;
        };
        match halves.remove(&id) {
            Some(other) if other.is_data != is_data => {
                let (data, error) = if is_data {
                    (incoming, other.incoming)
                } else {
                    (other.incoming, incoming)
                };
                let pair = Pair {
                    port,
                    source: data.source,
                    data: data.sink,
                    error: error.sink,
                };
                forwards.spawn(pair.forward(order.ports.clone()));
            }
            None if halves.len() < MOST_HALVES => {
                let until = Instant::now() + order.creation;
                let half = Half {
                    incoming,
                    is_data,
                    until,
                };
                halves.insert(id, half);
            }
            // Twice the same, or too many.
            Some(_) | None => incoming.sink.cancel().await,
        }
    }
    // The set is dropped, and with it every connection to the pod.
}

/// Waits until the first of the halves has waited long enough.
async fn grown_old(halves: &HashMap<String, Half>) {
    match halves.values().map(|half| half.until).min() {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Request id, port, and whether it is the data stream. Old clients give no id: theirs are pairs
/// of consecutive streams, that of errors first.
fn identify(incoming: &Incoming) -> Option<(String, u16, bool)> {
    let port = incoming.header("port")?.parse().ok().filter(|p| *p > 0)?;
    let is_data = match incoming.header("streamtype")? {
        "data" => true,
        "error" => false,
        _ => return None,
    };
    let id = match incoming.header("requestid").filter(|id| !id.is_empty()) {
        Some(id) => id.to_owned(),
        None if is_data => format!("stream {}", incoming.stream.checked_sub(2)?),
        None => format!("stream {}", incoming.stream),
    };
    Some((id, port, is_data))
}

/// One connection.
struct Pair {
    port: u16,
    source: Source,
    data: Sink,
    error: Sink,
}

impl Pair {
    async fn forward(self, ports: Arc<dyn Ports>) {
        let socket = match ports.dial(self.port).await {
            Ok(socket) => socket,
            Err(reason) => {
                let said = format!("port {}: {reason}", self.port);
                self.error.send(said.into()).await;
                self.error.end().await;
                self.data.cancel().await;
                return;
            }
        };
        // Keystrokes are not kept back.
        let _ = socket.set_nodelay(true);
        let (mut parts, reset) = self.source.split();
        let (from_pod, mut to_pod) = socket.into_split();
        let sending = async {
            while let Some(part) = parts.recv().await {
                if to_pod.write_all(&part).await.is_err() {
                    return;
                }
            }
            let _ = to_pod.shutdown().await;
        };
        let receiving = async {
            copy(from_pod, &self.data).await;
            // Clients wait for both before they close their side.
            self.data.end().await;
            self.error.end().await;
        };
        let reset = tokio::select! {
            reset = reset => reset,
            ((), ()) = async { tokio::join!(sending, receiving) } => return,
        };
        // The server is not to take what it has for all that was to come.
        let _ = set_socket_linger(to_pod.as_ref(), Some(Duration::ZERO));
        if reset == Ok(Reset::Stalled) {
            // Not a word of it to the client: kubectl and crictl end all that they forward when
            // they read anything from an error stream.
            tracing::info!(
                port = self.port,
                "a server that stopped reading is disconnected"
            );
        }
        self.error.end().await;
    }
}

async fn copy(mut from: OwnedReadHalf, to: &Sink) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PART);
        let mut room = (&mut from).take(PART as u64);
        match room.read_buf(&mut buffer).await {
            Ok(len) if len > 0 => {}
            _ => return,
        }
        if !to.send(buffer.split().freeze()).await {
            return;
        }
    }
}
