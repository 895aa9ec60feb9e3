//! Port forwarding.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use skiff_streaming::spdy::Frame;
use skiff_streaming::{Job, Ports};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Spdy, server, websocket};

/// A pod whose ports are those of this machine.
struct Loopback;

impl Ports for Loopback {
    fn dial(
        &self,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = Result<TcpStream, String>> + Send + '_>> {
        let connected = async move { TcpStream::connect(("127.0.0.1", port)).await };
        Box::pin(async move { connected.await.map_err(|e| e.to_string()) })
    }
}

pub(crate) fn forward(listed: Vec<u16>) -> Job {
    let ports = Arc::new(Loopback);
    Job::Forward { ports, listed }
}

/// A server that sends everything back; its port.
pub(crate) async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.into_split();
                copy(&mut from, &mut to).await
            });
        }
    });
    port
}

/// Opens a connection: streams of errors and of data.
pub(crate) async fn pair(client: &mut Spdy, port: u16, id: &str) -> (u32, u32) {
    let port = port.to_string();
    let mut streams = [0; 2];
    for (stream, kind) in streams.iter_mut().zip(["error", "data"]) {
        let mut headers = vec![("streamtype", kind), ("port", port.as_str())];
        if !id.is_empty() {
            headers.push(("requestid", id));
        }
        *stream = client.open(&headers).await;
    }
    (streams[0], streams[1])
}

#[tokio::test]
async fn many_connections_at_once() {
    let port = echo().await;
    let url = server().url(forward(Vec::new())).unwrap();
    let mut client = Spdy::connect(&url, "portforward.k8s.io").await;
    let mut pairs = Vec::new();
    for number in 0..100 {
        // An old client says no id.
        let id = if number % 2 == 0 {
            number.to_string()
        } else {
            String::new()
        };
        pairs.push(pair(&mut client, port, &id).await);
    }
    for (number, (error, data)) in pairs.iter().enumerate() {
        client.data(*error, b"", true).await;
        client
            .data(*data, format!("hello {number}").as_bytes(), true)
            .await;
    }
    let all = pairs.clone();
    let ended = move |c: &Spdy| all.iter().all(|(e, d)| c.has_ended(*e) && c.has_ended(*d));
    client.until(ended).await;
    for (number, (error, data)) in pairs.iter().enumerate() {
        assert_eq!(client.text(*data), format!("hello {number}"));
        assert_eq!(client.text(*error), "");
    }
    assert!(!client.closed, "more may be opened");
}

#[tokio::test]
async fn a_port_without_a_server_is_told_and_the_connection_goes_on() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = free.local_addr().unwrap().port();
    drop(free);
    let url = server().url(forward(Vec::new())).unwrap();
    let mut client = Spdy::connect(&url, "portforward.k8s.io").await;
    let (error, data) = pair(&mut client, closed, "1").await;
    client
        .until(|c| c.has_ended(error) && !c.resets.is_empty())
        .await;
    let said = client.text(error);
    assert!(
        said.contains(&closed.to_string()) && said.contains("refused"),
        "{said}"
    );
    assert_eq!(client.resets[0].0, data);
    let (_, data) = pair(&mut client, echo().await, "2").await;
    client.data(data, b"hello", true).await;
    client.until(|c| c.has_ended(data)).await;
    assert_eq!(client.text(data), "hello");
}

#[tokio::test]
async fn a_stream_that_is_reset_closes_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = server().url(forward(Vec::new())).unwrap();
    let mut client = Spdy::connect(&url, "portforward.k8s.io").await;
    let (error, stream) = pair(&mut client, port, "1").await;
    let (mut socket, _) = listener.accept().await.unwrap();
    let status = Frame::CANCEL;
    client.send(&Frame::Reset { stream, status }).await;
    client.until(|c| c.has_ended(error)).await;
    assert!(matches!(socket.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn streams_that_make_no_sense_are_refused() {
    let url = server().url(forward(Vec::new())).unwrap();
    let mut client = Spdy::connect(&url, "portforward.k8s.io").await;
    for headers in [
        &[("streamtype", "data")][..],
        &[("streamtype", "data"), ("port", "0")],
        &[("streamtype", "data"), ("port", "65536")],
        &[("streamtype", "other"), ("port", "80")],
        &[("port", "80")],
    ] {
        client.open(headers).await;
    }
    client.until(|c| c.resets.len() == 5).await;
    // Not opened at all, and opened out of order: the one is told, the other ends everything.
    client.data(99, b"x", false).await;
    client.until(|c| c.resets.len() == 6).await;
    assert_eq!(client.resets[5], (99, Frame::INVALID_STREAM));
    client
        .send(&Frame::SynStream {
            stream: 1,
            fin: false,
            headers: Default::default(),
        })
        .await;
    client.until(|c| c.closed).await;
}

#[tokio::test]
async fn spdy_within_websocket() {
    let port = echo().await;
    let url = server().url(forward(Vec::new())).unwrap();
    let mut outer = websocket(&url, "SPDY/3.1+portforward.k8s.io").await;
    // A relay between the SPDY client, which has a socket, and the messages.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (mut inner, _) = listener.accept().await.unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 100];
        loop {
            tokio::select! {
                len = inner.read(&mut buffer) => {
                    let Ok(len @ 1..) = len else { break };
                    outer.send(Message::binary(buffer[..len].to_vec())).await.unwrap();
                }
                message = outer.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => inner.write_all(&bytes).await.unwrap(),
                    _ => break,
                }
            }
        }
    });
    let mut client = Spdy::over(socket);
    let (error, data) = pair(&mut client, port, "1").await;
    let long = "hello ".repeat(20_000);
    client.data(data, long.as_bytes(), true).await;
    client
        .until(|c| c.has_ended(data) && c.has_ended(error))
        .await;
    assert_eq!(client.text(data), long);
}

#[tokio::test]
async fn channels_for_listed_ports() {
    let (one, other) = (echo().await, echo().await);
    let url = server().url(forward(vec![one, other])).unwrap();
    let mut client = websocket(&url, "v4.channel.k8s.io").await;
    client
        .send(Message::binary(&b"\x02to the other"[..]))
        .await
        .unwrap();
    let mut came = [const { Vec::new() }; 4];
    while came[2].len() < 2 + "to the other".len() {
        let Some(Ok(Message::Binary(bytes))) = client.next().await else {
            panic!("closed");
        };
        came[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
    }
    for (channel, port) in [(0, one), (1, one), (3, other)] {
        assert_eq!(came[channel], port.to_le_bytes());
    }
    assert_eq!(
        came[2],
        [&other.to_le_bytes()[..], b"to the other"].concat()
    );
}
