//! Exec and attach: a command's pipes and a client's streams, and how it ended.
//!
//! ```text
//!  client streams ──> stdin pipe ──┐
//!                                  command
//!  client streams <── stdout, stderr pipes
//! ```
//!
//! When the command has ended, what is left in its pipes is sent, and no more is waited for:
//! somebody else may hold them open. When the client has gone the command's future is dropped.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{mpsc, watch};

use crate::channel::{Full, Line, PART, Sink, Source};
use crate::presence::Presence;
use crate::resize::{Parser, Resizes, Size};
use crate::upgrade::{CommandUpgrade, Version};
use crate::{spdy, status, websocket};

/// Numbers of the streams in channel protocols.
const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
const ERROR: u32 = 3;
const RESIZE: u32 = 4;

/// Streams that were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    /// The client has input.
    pub stdin: bool,
    /// The client wants the output.
    pub stdout: bool,
    /// The client wants the error output; not with a terminal.
    pub stderr: bool,
    /// The command has a terminal.
    pub tty: bool,
}

/// The command's ends of its pipes: those that were asked for.
#[derive(Debug)]
pub struct Pipes {
    /// To read from.
    pub stdin: Option<OwnedFd>,
    /// To write to.
    pub stdout: Option<OwnedFd>,
    /// To write to.
    pub stderr: Option<OwnedFd>,
    /// Sizes of the client's terminal.
    pub resizes: Resizes,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With an exit code.
    Code(i32),
    /// There is nothing to say about it: an attach is over.
    Ended,
    /// It could not be run; the whole story for the client.
    Failed(String),
}

/// Something that runs on pipes. Its future ends when it has ended; dropped before, it ends it.
pub type Command = Box<dyn FnOnce(Pipes) -> Pin<Box<dyn Future<Output = Exit> + Send>> + Send>;

/// A client, ready to be served.
struct Client {
    line: Line,
    stdin: Option<Source>,
    stdout: Option<Sink>,
    stderr: Option<Sink>,
    error: Sink,
    resize: Option<Source>,
    version: Version,
}

/// What to run, and for how long a client may take to open the streams it asked for.
pub(crate) struct Order {
    pub(crate) streams: Streams,
    pub(crate) burst: usize,
    pub(crate) command: Command,
    pub(crate) creation: Duration,
}

/// Runs a command for the client at the other end of `io`.
pub(crate) async fn serve<I>(io: I, presence: Arc<Presence>, upgrade: CommandUpgrade, order: Order)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let streams = order.streams;
    let client = match upgrade {
        CommandUpgrade::Spdy(version) => {
            let connection = spdy::serve(io, Some(presence), Full::Wait);
            let opening = over_spdy(connection, version, streams);
            match tokio::time::timeout(order.creation, opening).await {
                Ok(Some(client)) => client,
                Ok(None) => return,
                Err(_) => return tracing::debug!("a client does not open its streams"),
            }
        }
        CommandUpgrade::WebSocket(channels, version) => {
            over_websocket(io, presence, channels, version, streams).await
        }
    };
    client.run(order.command, order.burst).await;
}

/// Waits for the streams that belong to what was asked for: always that of errors.
async fn over_spdy(
    mut connection: spdy::Connection,
    version: Version,
    streams: Streams,
) -> Option<Client> {
    let resizes = streams.tty && version >= Version::V3;
    let wanted = [
        ("error", true),
        ("stdin", streams.stdin),
        ("stdout", streams.stdout),
        ("stderr", streams.stderr),
        ("resize", resizes),
    ];
    let mut opened: [Option<(Source, Sink)>; 5] = Default::default();
    let is_missing = |(slot, (_, wanted)): (&Option<_>, &(_, bool))| *wanted && slot.is_none();
    while opened.iter().zip(&wanted).any(is_missing) {
        let incoming = connection.next().await?;
        let kind = incoming.header("streamtype").unwrap_or_default();
        let place = wanted.iter().position(|(name, _)| *name == kind);
        match place.map(|place| &mut opened[place]) {
            Some(slot @ None) => *slot = Some((incoming.source, incoming.sink)),
            Some(Some(_)) | None => incoming.sink.cancel().await,
        }
    }
    let [error, stdin, stdout, stderr, resize] = opened;
    let source = |opened: Option<(Source, Sink)>| opened.map(|(source, _)| source);
    let sink = |opened: Option<(Source, Sink)>| opened.map(|(_, sink)| sink);
    let stdin = match stdin {
        Some((source, sink)) => {
            // The first clients wait for this before they go on.
            if version == Version::V1 {
                sink.end().await;
            }
            Some(source)
        }
        None => None,
    };
    Some(Client {
        line: connection.line,
        stdin: stdin.filter(|_| streams.stdin),
        stdout: sink(stdout).filter(|_| streams.stdout),
        stderr: sink(stderr).filter(|_| streams.stderr),
        error: sink(error)?,
        resize: source(resize),
        version,
    })
}

async fn over_websocket<I>(
    io: I,
    presence: Arc<Presence>,
    channels: websocket::Channels,
    version: Version,
    streams: Streams,
) -> Client
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let readable = [streams.stdin, false, false, false, true];
    let websocket::Connection { line, mut sources } =
        websocket::serve(io, presence, channels, &readable, Full::Wait).await;
    let mut source = |stream: u32| sources[stream as usize].take();
    let sink = |stream, wanted: bool| wanted.then(|| line.sink(stream));
    let client = Client {
        stdin: source(STDIN),
        stdout: sink(STDOUT, streams.stdout),
        stderr: sink(STDERR, streams.stderr),
        error: line.sink(ERROR),
        resize: source(RESIZE),
        version,
        line: line.clone(),
    };
    // Some clients wait for a first message to know that the connection stands.
    let first = client.stdout.as_ref().or(client.stderr.as_ref());
    first.unwrap_or(&client.error).send(Bytes::new()).await;
    client
}

impl Client {
    /// `burst` bytes of output may wait for the client.
    async fn run(self, command: Command, burst: usize) {
        let waiting = burst / PART + 1;
        let line = self.line.clone();
        let (sizes, resizes) = watch::channel(None);
        let made = Made::new(&self, Resizes(resizes));
        let (pipes, stdin, stdout, stderr) = match made {
            Ok(made) => (made.pipes, made.stdin, made.stdout, made.stderr),
            Err(e) => return self.end(&Exit::Failed(format!("make pipes: {e}"))).await,
        };
        let Self {
            stdin: typed,
            stdout: out,
            stderr: err,
            error,
            resize,
            version,
            ..
        } = self;
        let (ended, has_ended) = watch::channel(false);
        let command = async {
            let exit = command(pipes).await;
            ended.send_replace(true);
            exit
        };
        let outputs = async {
            let out = show(stdout.zip(out), waiting, has_ended.clone());
            let err = show(stderr.zip(err), waiting, has_ended.clone());
            tokio::join!(command, out, err).0
        };
        let inputs = async {
            tokio::join!(type_in(typed.zip(stdin)), tell_sizes(resize, sizes));
            std::future::pending::<()>().await;
        };
        let exit = tokio::select! {
            () = line.gone() => return,
            exit = outputs => exit,
            () = inputs => return,
        };
        finish(&line, &error, version, &exit).await;
    }

    async fn end(self, exit: &Exit) {
        finish(&self.line, &self.error, self.version, exit).await;
    }
}

async fn finish(line: &Line, error: &Sink, version: Version, exit: &Exit) {
    let said = if version >= Version::V4 {
        status::json(exit)
    } else {
        status::text(exit)
    };
    if !said.is_empty() {
        error.send(said.into()).await;
    }
    error.end().await;
    line.close().await;
}

/// Pipes, and our ends of them.
struct Made {
    pipes: Pipes,
    stdin: Option<Sender>,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
}

impl Made {
    fn new(client: &Client, resizes: Resizes) -> io::Result<Self> {
        let (read, write) = pipe_if(client.stdin.is_some())?.unzip();
        let (out_read, out_write) = pipe_if(client.stdout.is_some())?.unzip();
        let (err_read, err_write) = pipe_if(client.stderr.is_some())?.unzip();
        let receiver = |fd: Option<OwnedFd>| fd.map(receiver).transpose();
        Ok(Self {
            stdin: write
                .map(|fd| {
                    rustix::io::ioctl_fionbio(&fd, true)?;
                    Sender::from_owned_fd(fd)
                })
                .transpose()?,
            stdout: receiver(out_read)?,
            stderr: receiver(err_read)?,
            pipes: Pipes {
                stdin: read,
                stdout: out_write,
                stderr: err_write,
                resizes,
            },
        })
    }
}

fn pipe_if(wanted: bool) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
    Ok(wanted.then(|| pipe_with(PipeFlags::CLOEXEC)).transpose()?)
}

fn receiver(fd: OwnedFd) -> io::Result<Receiver> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Receiver::from_owned_fd(fd)
}

/// Sends what comes out of a pipe, until its end, or until the command has ended and the pipe is
/// empty. Parts that the client has not taken yet wait, `waiting` of them at the most.
async fn show(
    pair: Option<(Receiver, Sink)>,
    waiting: usize,
    mut has_ended: watch::Receiver<bool>,
) {
    let Some((pipe, sink)) = pair else { return };
    let (parts, mut to_send) = mpsc::channel(waiting);
    let reading = async move {
        loop {
            tokio::select! {
                ready = pipe.readable() => {
                    let mut part = BytesMut::zeroed(PART);
                    match ready.and_then(|()| pipe.try_read(&mut part)) {
                        Ok(0) => return,
                        Ok(len) => {
                            part.truncate(len);
                            if parts.send(part.freeze()).await.is_err() {
                                return;
                            }
                        }
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => return,
                    }
                }
                () = is_set(&mut has_ended) => return drain(&pipe, &parts).await,
            }
        }
    };
    let sending = async {
        while let Some(part) = to_send.recv().await {
            if !sink.send(part).await {
                return;
            }
        }
        sink.end().await;
    };
    tokio::join!(reading, sending);
}

async fn is_set(flag: &mut watch::Receiver<bool>) {
    // Its sender is dropped with the command only, and then all of this is.
    let _ = flag.wait_for(|set| *set).await.map(drop);
}

/// Sends what is in a pipe now, at most as much as it can hold. Asks the pipe itself: the runtime
/// may not have heard yet of what the command wrote last.
async fn drain(pipe: &Receiver, parts: &mpsc::Sender<Bytes>) {
    let mut left = fcntl_getpipe_size(pipe).unwrap_or(PART);
    while left > 0 {
        let mut part = BytesMut::zeroed(PART);
        match rustix::io::read(pipe, &mut part[..]) {
            Ok(len) if len > 0 => {
                left = left.saturating_sub(len);
                part.truncate(len);
                if parts.send(part.freeze()).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// Writes what the client types, and closes the pipe when it has no more.
async fn type_in(pair: Option<(Source, Sender)>) {
    let Some((mut source, mut pipe)) = pair else {
        return;
    };
    while let Some(part) = source.next().await {
        if pipe.write_all(&part).await.is_err() {
            // Nobody reads; what else comes is dropped.
            return;
        }
    }
}

async fn tell_sizes(source: Option<Source>, sizes: watch::Sender<Option<Size>>) {
    let Some(mut source) = source else { return };
    let mut parser = Parser::default();
    while let Some(part) = source.next().await {
        if let Some(size) = parser.push(&part) {
            sizes.send_replace(Some(size));
        }
    }
}
