//! Clients and servers that do not go on: how long who waits for them.

use std::io::Write;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use skiff_streaming::spdy::Frame;
use skiff_streaming::{Exit, Streams, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{ALL, Spdy, job, server, server_with, websocket};
use crate::forwards::{echo, forward, pair};

const SHORT: Duration = Duration::from_millis(200);
/// More than all queues between a client and a server in a pod hold, in bytes.
const FLOOD: usize = 64 << 20;

/// A server that accepts one connection and reads nothing; its port and what it accepted.
async fn deaf() -> (u16, tokio::task::JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = tokio::spawn(async move { listener.accept().await.unwrap().0 });
    (port, accepted)
}

/// Reads to the end, which a reset connection does not have.
async fn is_reset(mut socket: TcpStream) -> bool {
    let mut all = Vec::new();
    socket.read_to_end(&mut all).await.is_err()
}

#[tokio::test]
async fn a_server_that_stops_reading_loses_its_connection_and_no_other() {
    let stall = Timeouts {
        stall: SHORT,
        ..Timeouts::default()
    };
    let (port, accepted) = deaf().await;
    let url = server_with(stall).url(forward(Vec::new())).unwrap();
    let mut client = Spdy::connect(&url, "portforward.k8s.io").await;
    let (error, stuck) = pair(&mut client, port, "1").await;
    let (_, data) = pair(&mut client, echo().await, "2").await;
    for _ in 0..FLOOD / (64 << 10) {
        client.data(stuck, &[b'x'; 64 << 10], false).await;
    }
    client.data(data, b"hello", true).await;
    client.until(|c| c.has_ended(data)).await;
    assert_eq!(client.text(data), "hello");
    client.until(|c| c.has_ended(error)).await;
    assert_eq!(client.text(error), "", "a word would end all connections");
    assert_eq!(client.resets, [(stuck, Frame::CANCEL)]);
    assert!(is_reset(accepted.await.unwrap()).await, "no clean end");
    assert!(!client.closed);
}

#[tokio::test]
async fn a_server_that_stops_reading_does_not_hold_up_other_channels() {
    let stall = Timeouts {
        stall: SHORT,
        ..Timeouts::default()
    };
    let (port, _accepted) = deaf().await;
    let listed = vec![port, echo().await];
    let url = server_with(stall).url(forward(listed)).unwrap();
    let mut client = websocket(&url, "v4.channel.k8s.io").await;
    let part = [&[0][..], &[b'x'; 64 << 10]].concat();
    for _ in 0..FLOOD / (64 << 10) {
        client.send(Message::binary(part.clone())).await.unwrap();
    }
    client
        .send(Message::binary(&b"\x02hello"[..]))
        .await
        .unwrap();
    let mut came = [const { Vec::new() }; 4];
    while came[2].len() < 7 {
        let Some(Ok(Message::Binary(bytes))) = client.next().await else {
            panic!("closed");
        };
        came[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
    }
    assert!(came[2].ends_with(b"hello"));
    assert_eq!(came[1], port.to_le_bytes(), "nothing else is said");
}

/// A server that pauses and goes on gets everything.
#[tokio::test]
async fn a_server_that_is_slow_misses_nothing() {
    let (port, accepted) = deaf().await;
    let url = server().url(forward(Vec::new())).unwrap();
    let mut client = Spdy::connect(&url, "portforward.k8s.io").await;
    let (_, data) = pair(&mut client, port, "1").await;
    let counting = async {
        let mut socket = accepted.await.unwrap();
        tokio::time::sleep(SHORT).await;
        let (mut count, mut buffer) = (0, vec![0; 64 << 10]);
        loop {
            match socket.read(&mut buffer).await.unwrap() {
                0 => break,
                len => count += len,
            }
        }
        socket.write_all(b"all").await.unwrap();
        count
    };
    let sending = async {
        for _ in 0..FLOOD / (64 << 10) {
            client.data(data, &[b'x'; 64 << 10], false).await;
        }
        client.data(data, b"", true).await;
        client.until(|c| c.has_ended(data)).await;
    };
    let (count, ()) = tokio::join!(counting, sending);
    assert_eq!(count, FLOOD);
    assert_eq!(client.text(data), "all");
}

#[tokio::test]
async fn a_connection_without_a_word_is_closed() {
    let idle = Timeouts {
        idle: SHORT,
        ..Timeouts::default()
    };
    let server = server_with(idle);
    let endless = |gone: oneshot::Sender<()>| {
        job(ALL, |_| async {
            let _gone = gone;
            std::future::pending().await
        })
    };
    let (gone, ended) = oneshot::channel();
    let url = server.url(endless(gone)).unwrap();
    let mut client = Spdy::connect(&url, "v4.channel.k8s.io").await;
    client
        .streams(&["error", "stdin", "stdout", "stderr"])
        .await;
    client.until(|c| c.closed).await;
    assert!(ended.await.is_err(), "the command ends with its client");

    let (gone, ended) = oneshot::channel();
    let url = server.url(endless(gone)).unwrap();
    let mut client = websocket(&url, "v5.channel.k8s.io").await;
    while let Some(Ok(_)) = client.next().await {}
    assert!(ended.await.is_err());

    let url = server.url(forward(Vec::new())).unwrap();
    let mut client = websocket(&url, "SPDY/3.1+portforward.k8s.io").await;
    while let Some(Ok(_)) = client.next().await {}
}

#[tokio::test]
async fn a_client_that_does_not_open_its_streams_is_sent_away() {
    let creation = Timeouts {
        creation: SHORT,
        ..Timeouts::default()
    };
    let server = server_with(creation);
    let (ran, has_run) = oneshot::channel();
    let url = server
        .url(job(ALL, |_| async {
            ran.send(()).unwrap();
            Exit::Code(0)
        }))
        .unwrap();
    let mut client = Spdy::connect(&url, "v4.channel.k8s.io").await;
    client.streams(&["error", "stdin"]).await;
    client.until(|c| c.closed).await;
    assert!(has_run.await.is_err(), "nothing is run");

    let url = server.url(forward(Vec::new())).unwrap();
    let mut client = Spdy::connect(&url, "portforward.k8s.io").await;
    let headers = [("streamtype", "data"), ("port", "80"), ("requestid", "1")];
    let half = client.open(&headers).await;
    client.until(|c| !c.resets.is_empty()).await;
    assert_eq!(client.resets, [(half, Frame::CANCEL)]);
    let (_, data) = pair(&mut client, echo().await, "1").await;
    client.data(data, b"hello", true).await;
    client.until(|c| c.has_ended(data)).await;
}

#[tokio::test]
async fn a_client_that_goes_while_its_input_waits_ends_its_command() {
    let (gone, ended) = oneshot::channel::<()>();
    let command = |pipes| async {
        let (_pipes, _gone) = (pipes, gone);
        std::future::pending().await
    };
    let url = server().url(job(ALL, command)).unwrap();
    let mut client = Spdy::connect(&url, "v4.channel.k8s.io").await;
    let streams = client
        .streams(&["error", "stdin", "stdout", "stderr"])
        .await;
    // More than the pipe and the queue hold, less than the sockets do.
    for _ in 0..13 {
        client
            .data(streams["stdin"], &[b'x'; 16 << 10], false)
            .await;
    }
    drop(client);
    assert!(ended.await.is_err());
}

/// Nobody takes the output, and all of it is there when somebody does.
#[tokio::test]
async fn output_of_a_command_that_ends_at_once_waits_for_its_client() {
    let streams = Streams {
        stdout: true,
        ..Streams::default()
    };
    let url = server()
        .url(job(streams, |pipes| async {
            let mut out = std::fs::File::from(pipes.stdout.unwrap());
            out.write_all(&[b'x'; 60_000]).unwrap();
            Exit::Ended
        }))
        .unwrap();
    let mut client = Spdy::connect(&url, "v4.channel.k8s.io").await;
    let streams = client.streams(&["error", "stdout"]).await;
    tokio::time::sleep(SHORT).await;
    client.until(|c| c.closed).await;
    assert_eq!(client.text(streams["stdout"]).len(), 60_000);
    assert!(client.text(streams["error"]).contains("Success"));
}
