//! Requests to a server on loopback that speaks plain HTTP: the kubelet's read-only port, and the
//! API server behind `kubectl proxy`.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(30);

/// The body of the answer to `GET path`. Anything but a success is an error.
pub(crate) async fn get(port: u16, path: &str) -> anyhow::Result<String> {
    ask(port, "GET", path, "").await
}

/// The body of the answer to a request with a JSON body. Anything but a success is an error.
pub(crate) async fn ask(port: u16, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
    let answer = tokio::time::timeout(LIMIT, exchange(port, method, path, body)).await;
    answer
        .unwrap_or_else(|_| bail!("no answer within {LIMIT:?}"))
        .with_context(|| format!("{method} 127.0.0.1:{port}{path}"))
}

async fn exchange(port: u16, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // HTTP/1.0: the answer comes in one piece and ends with the connection
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer).context("an answer that is no text")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer cut short")?;
    let status = head.lines().next().unwrap_or_default();
    if !status
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .starts_with('2')
    {
        bail!("{status}: {body}");
    }
    Ok(body.to_owned())
}
