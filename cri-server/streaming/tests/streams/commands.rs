//! Commands: exec and attach.

use std::fs::File;
use std::io::{Read, Write};

use futures_util::{SinkExt, StreamExt};
use skiff_streaming::spdy::Frame;
use skiff_streaming::{Exit, Pipes, Size, Streams};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{ALL, Spdy, job, server, websocket};

/// Says on both outputs what it reads, and ends with code 3 at the end of its input.
async fn echo(pipes: Pipes) -> Exit {
    tokio::task::spawn_blocking(move || {
        let mut stdin = File::from(pipes.stdin.unwrap());
        let mut outputs: Vec<File> = [pipes.stdout, pipes.stderr]
            .into_iter()
            .flatten()
            .map(File::from)
            .collect();
        let mut buffer = [0; 4096];
        loop {
            let len = stdin.read(&mut buffer).unwrap();
            if len == 0 {
                return Exit::Code(3);
            }
            for output in &mut outputs {
                output.write_all(&buffer[..len]).unwrap();
            }
        }
    })
    .await
    .unwrap()
}

/// Runs until its client has gone; says so.
async fn endless(gone: oneshot::Sender<()>) -> Exit {
    let _gone = gone;
    std::future::pending().await
}

#[tokio::test]
async fn a_command_over_spdy() {
    for (version, status) in [
        ("v4.channel.k8s.io", r#""reason":"NonZeroExitCode""#),
        ("v3.channel.k8s.io", "non-zero exit code: exit status 3"),
        ("v2.channel.k8s.io", "non-zero exit code: exit status 3"),
        ("channel.k8s.io", "non-zero exit code: exit status 3"),
    ] {
        let url = server().url(job(ALL, echo)).unwrap();
        let mut client = Spdy::connect(&url, version).await;
        let streams = client
            .streams(&["error", "stdin", "stdout", "stderr"])
            .await;
        let (stdin, stdout) = (streams["stdin"], streams["stdout"]);
        client.data(stdin, b"hello ", false).await;
        client.until(|c| c.text(stdout) == "hello ").await;
        client.send(&Frame::Ping(7)).await;
        client.data(stdin, b"world", true).await;
        client.until(|c| c.closed).await;
        assert_eq!(client.text(stdout), "hello world");
        assert_eq!(client.text(streams["stderr"]), "hello world");
        assert!(client.text(streams["error"]).contains(status), "{version}");
        for stream in ["stdout", "stderr", "error"] {
            assert!(client.has_ended(streams[stream]), "{version} {stream}");
        }
        assert_eq!(client.has_ended(stdin), version == "channel.k8s.io");
        assert_eq!(client.pings, [7]);
    }
}

#[tokio::test]
async fn a_command_over_websocket() {
    let url = server().url(job(ALL, echo)).unwrap();
    let mut client = websocket(&url, "v5.channel.k8s.io").await;
    client
        .send(Message::binary(&b"\x00hello"[..]))
        .await
        .unwrap();
    // Half of the connection closes: stdin has ended.
    client
        .send(Message::binary(&b"\xff\x00"[..]))
        .await
        .unwrap();
    let mut came = [const { Vec::new() }; 5];
    let mut closed = None;
    while let Some(Ok(message)) = client.next().await {
        match message {
            Message::Binary(bytes) => came[usize::from(bytes[0])].extend_from_slice(&bytes[1..]),
            Message::Close(frame) => closed = frame.map(|frame| u16::from(frame.code)),
            _ => {}
        }
    }
    assert_eq!((&came[1][..], &came[2][..]), (&b"hello"[..], &b"hello"[..]));
    let status = String::from_utf8(came[3].clone()).unwrap();
    assert!(status.contains(r#""message":"3""#), "{status}");
    assert_eq!(closed, Some(1000));
}

/// Says the five bytes that it reads, and ends with code 3.
async fn echo_five(mut pipes: Pipes) -> Exit {
    let stdin = pipes.stdin.take().unwrap();
    let mut out = File::from(pipes.stdout.unwrap());
    tokio::task::spawn_blocking(move || {
        let mut read = [0; 5];
        File::from(stdin).read_exact(&mut read).unwrap();
        out.write_all(&read).unwrap();
        Exit::Code(3)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_command_over_older_websocket_protocols() {
    let streams = Streams {
        stdin: true,
        stdout: true,
        ..Streams::default()
    };
    for (protocol, status) in [
        ("v4.channel.k8s.io", r#""reason":"NonZeroExitCode""#),
        ("channel.k8s.io", "non-zero exit code: exit status 3"),
    ] {
        let url = server().url(job(streams, echo_five)).unwrap();
        let mut client = websocket(&url, protocol).await;
        client.send(Message::binary(&b"\x00he"[..])).await.unwrap();
        // Nothing is known here of half of the connection closing.
        client
            .send(Message::binary(&b"\xff\x00"[..]))
            .await
            .unwrap();
        client.send(Message::binary(&b"\x00llo"[..])).await.unwrap();
        let mut came = [const { Vec::new() }; 5];
        while let Some(Ok(Message::Binary(bytes))) = client.next().await {
            came[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
        }
        assert_eq!(came[1], b"hello", "{protocol}");
        let said = String::from_utf8(came[3].clone()).unwrap();
        assert!(said.contains(status), "{protocol}: {said}");
    }
    for protocol in ["v4.base64.channel.k8s.io", "base64.channel.k8s.io"] {
        let url = server().url(job(streams, echo_five)).unwrap();
        let mut client = websocket(&url, protocol).await;
        client.send(Message::text("0aGVsbG8=")).await.unwrap();
        let mut came = Vec::new();
        while let Some(Ok(Message::Text(text))) = client.next().await {
            came.push(text.to_string());
        }
        // The first says that the connection stands.
        assert_eq!(came[..2], ["1", "1aGVsbG8="], "{protocol}");
        assert!(came[2].starts_with('3'), "{protocol}: {came:?}");
    }
}

#[tokio::test]
async fn what_was_said_last_is_not_lost_and_a_descendant_holds_nothing_up() {
    let streams = Streams {
        stdout: true,
        ..Streams::default()
    };
    let (kept, descendant) = oneshot::channel();
    let url = server()
        .url(job(streams, |pipes: Pipes| async {
            let mut out = File::from(pipes.stdout.unwrap());
            out.write_all(&[b'x'; 60_000]).unwrap();
            kept.send(out).unwrap();
            Exit::Code(0)
        }))
        .unwrap();
    let mut client = Spdy::connect(&url, "v4.channel.k8s.io").await;
    let streams = client.streams(&["error", "stdout"]).await;
    client.until(|c| c.closed).await;
    assert_eq!(client.text(streams["stdout"]).len(), 60_000);
    assert!(client.text(streams["error"]).contains("Success"));
    drop(descendant.await.unwrap());
}

#[tokio::test]
async fn a_client_that_goes_ends_its_command() {
    let (gone, ended) = oneshot::channel();
    let url = server().url(job(ALL, |_| endless(gone))).unwrap();
    let mut client = Spdy::connect(&url, "v4.channel.k8s.io").await;
    client
        .streams(&["error", "stdin", "stdout", "stderr"])
        .await;
    client.send(&Frame::Ping(1)).await;
    client.until(|c| c.pings == [1]).await;
    drop(client);
    assert!(ended.await.is_err());

    let (gone, ended) = oneshot::channel();
    let url = server().url(job(ALL, |_| endless(gone))).unwrap();
    drop(websocket(&url, "v5.channel.k8s.io").await);
    assert!(ended.await.is_err());
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_its_command_and_nobody_else() {
    let server = server();
    let flood = |pipes: Pipes| async {
        let mut out = File::from(pipes.stdout.unwrap());
        tokio::task::spawn_blocking(move || {
            for _ in 0..1024 {
                out.write_all(&[b'x'; 16 << 10]).unwrap();
            }
            Exit::Code(0)
        })
        .await
        .unwrap()
    };
    let streams = Streams {
        stdout: true,
        ..Streams::default()
    };
    let stuck_url = server.url(job(streams, flood)).unwrap();
    let mut stuck = Spdy::connect(&stuck_url, "v4.channel.k8s.io").await;
    let of_stuck = stuck.streams(&["error", "stdout"]).await;
    let url = server.url(job(ALL, echo)).unwrap();
    let mut client = Spdy::connect(&url, "v4.channel.k8s.io").await;
    let streams = client
        .streams(&["error", "stdin", "stdout", "stderr"])
        .await;
    client.data(streams["stdin"], b"hello", true).await;
    client.until(|c| c.closed).await;
    assert_eq!(client.text(streams["stdout"]), "hello");
    // And it misses nothing when it reads at last.
    stuck.until(|c| c.closed).await;
    assert_eq!(stuck.text(of_stuck["stdout"]).len(), 16 << 20);
}

const TERMINAL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};

/// Asks for another size, and ends with the sum of what it gets.
async fn resized(mut pipes: Pipes) -> Exit {
    let first = pipes.resizes.next().await.unwrap();
    assert_eq!((first.width, first.height), (80, 24));
    let mut out = File::from(pipes.stdout.unwrap());
    out.write_all(b"more?").unwrap();
    let Size { width, height } = pipes.resizes.next().await.unwrap();
    Exit::Code(i32::from(width) + i32::from(height))
}

#[tokio::test]
async fn a_terminal_is_resized() {
    for version in ["v4.channel.k8s.io", "v3.channel.k8s.io"] {
        let url = server().url(job(TERMINAL, resized)).unwrap();
        let mut client = Spdy::connect(&url, version).await;
        let streams = client
            .streams(&["error", "stdin", "stdout", "resize"])
            .await;
        let (resize, stdout) = (streams["resize"], streams["stdout"]);
        let (first, second) = (
            r#"{"Width":80,"Height":24}"#,
            r#"{"Width":100,"Height":30}"#,
        );
        client.data(resize, first.as_bytes(), false).await;
        client.until(|c| c.text(stdout) == "more?").await;
        client.data(resize, second.as_bytes(), false).await;
        client.until(|c| c.closed).await;
        let status = client.text(streams["error"]);
        assert!(status.contains("130"), "{version}: {status}");
    }
}

#[tokio::test]
async fn a_terminal_is_resized_over_websocket() {
    let url = server().url(job(TERMINAL, resized)).unwrap();
    let mut client = websocket(&url, "v5.channel.k8s.io").await;
    let size = |size: &str| Message::binary([b"\x04", size.as_bytes()].concat());
    let first = size(r#"{"Width":80,"Height":24}"#);
    client.send(first).await.unwrap();
    let mut status = String::new();
    while let Some(Ok(Message::Binary(bytes))) = client.next().await {
        match &bytes[..] {
            b"\x01more?" => {
                let second = size(r#"{"Width":100,"Height":30}"#);
                client.send(second).await.unwrap();
            }
            [3, said @ ..] => status.push_str(std::str::from_utf8(said).unwrap()),
            _ => {}
        }
    }
    assert!(status.contains(r#""message":"130""#), "{status}");
}

#[tokio::test]
async fn streams_that_were_not_asked_for_are_refused() {
    let streams = Streams {
        stdout: true,
        ..Streams::default()
    };
    let url = server()
        .url(job(streams, |_| async {
            Exit::Failed("no such \"thing\"".into())
        }))
        .unwrap();
    let mut client = Spdy::connect(&url, "v4.channel.k8s.io").await;
    let streams = client
        .streams(&["unknown", "stdout", "stdout", "error"])
        .await;
    client.until(|c| c.closed).await;
    let refused: Vec<u32> = client.resets.iter().map(|(stream, _)| *stream).collect();
    assert_eq!(refused, [1, 5]);
    let status = client.text(streams["error"]);
    assert!(
        status.contains("InternalError") && status.contains("no such"),
        "{status}"
    );
}
