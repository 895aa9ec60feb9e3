//! Commands and containers at the other end of a client's streams: what Exec and Attach do once
//! the client has come to their URL.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;

use bytes::{Buf, BytesMut};
use rustix::pipe::fcntl_setpipe_size;
use skiff_shim_proto::message::{Attach, Exec, Resize, TerminalOf};
use skiff_spec::exec_process;
use skiff_streaming::{Command, Exit, Pipes, Resizes, Streams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;

use super::error::ContainerError;
use super::exec::KillOnDrop;
use super::state::Denied;
use super::view::ContainerView;
use crate::id::Id;
use crate::shim::{Client, ShimError};
use crate::telemetry::chain;

/// Output that waits for us in the pipe of an attached client, in bytes: the most that a pipe
/// holds without privileges. The shim drops what does not fit.
const ATTACH_PIPE: usize = 1 << 20;

/// What runs `command` in a container for a client. When the client goes, the command is killed
/// with its descendants.
pub fn exec(
    client: &Client,
    container: &ContainerView,
    command: &[String],
    streams: Streams,
) -> Result<Command, ContainerError> {
    let id = container.facts.id.clone();
    let process = exec_process(&container.facts.process, command, streams.tty);
    let exec = Exec {
        exec_id: client.exec_id(),
        id: id.to_string(),
        process: process.ok_or_else(|| ContainerError::Denied {
            action: "exec in",
            id: id.clone(),
            denied: Denied::NotRunning,
        })?,
        stdin: streams.stdin,
        terminal: streams.tty,
    };
    let client = client.clone();
    Ok(Box::new(move |pipes| {
        Box::pin(async move { told("exec in", id, run(&client, exec, pipes).await) })
    }))
}

async fn run(client: &Client, exec: Exec, pipes: Pipes) -> Result<Exit, ShimError> {
    let exec_id = exec.exec_id;
    let Pipes {
        stdin,
        stdout,
        stderr,
        resizes,
    } = pipes;
    let mut fds: Vec<OwnedFd> = stdin.into_iter().collect();
    let outputs = if exec.terminal { 1 } else { 2 };
    for output in [stdout, stderr].into_iter().take(outputs) {
        match output.map_or_else(nowhere, Ok) {
            Ok(fd) => fds.push(fd),
            Err(e) => return Ok(Exit::Failed(format!("open /dev/null: {e}"))),
        }
    }
    let mut kill = KillOnDrop::new(client, exec_id);
    let result = tokio::select! {
        // First: what is not there cannot be resized.
        biased;
        result = client.exec(exec, fds) => result,
        never = resize(client, TerminalOf::Exec(exec_id), resizes) => match never {},
    };
    kill.disarm();
    result.map(Exit::Code)
}

/// What attaches a client to a container.
pub fn attach(client: &Client, container: &ContainerView, streams: Streams) -> Command {
    let (client, id) = (client.clone(), container.facts.id.clone());
    Box::new(move |pipes| {
        Box::pin(async move {
            told(
                "attach to",
                id.clone(),
                join(&client, id, streams, pipes).await,
            )
        })
    })
}

async fn join(client: &Client, id: Id, streams: Streams, pipes: Pipes) -> Result<Exit, ShimError> {
    let Pipes {
        stdin,
        stdout,
        stderr,
        resizes,
    } = pipes;
    for pipe in stdout.iter().chain(&stderr) {
        // The usual size will do.
        let _ = fcntl_setpipe_size(pipe, ATTACH_PIPE);
    }
    let attach = Attach {
        id: id.to_string(),
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let shown = streams.stdout || streams.stderr;
    let (stdin, typing) = match stdin {
        Some(pipe) if !shown => match over_socket(pipe) {
            Ok((socket, typing)) => (Some(socket), Some(typing)),
            Err(e) => {
                return Ok(Exit::Failed(format!(
                    "make a socket for what is typed: {e}"
                )));
            }
        },
        stdin => (stdin, None),
    };
    let fds = stdin.into_iter().chain(stdout).chain(stderr).collect();
    tokio::select! {
        biased;
        result = client.attach(attach, fds) => result.map(|()| Exit::Ended),
        never = resize(client, TerminalOf::Container(id.to_string()), resizes) => match never {},
        never = pass_on(typing) => match never {},
    }
}

/// As much of what is typed as is passed on at once, in bytes.
const PART: usize = 8192;

/// What a client types, and where it goes on.
struct Typing {
    pipe: Receiver,
    socket: UnixStream,
    /// What has left the one and not reached the other.
    taken: BytesMut,
}

/// The shim cannot tell by a pipe whether a client that is shown nothing has gone or has no more to
/// type. It can by a socket, which is shut down for the one and closed for the other.
fn over_socket(pipe: OwnedFd) -> io::Result<(OwnedFd, Typing)> {
    let (theirs, ours) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    rustix::io::ioctl_fionbio(&pipe, true)?;
    let typing = Typing {
        pipe: Receiver::from_owned_fd(pipe)?,
        socket: UnixStream::from_std(ours)?,
        taken: BytesMut::new(),
    };
    Ok((theirs.into(), typing))
}

impl Typing {
    /// Passes on what is typed, to its end.
    async fn pass_on(&mut self) -> io::Result<()> {
        loop {
            self.taken.reserve(PART);
            if self.pipe.read_buf(&mut self.taken).await? == 0 {
                return self.socket.shutdown().await;
            }
            self.socket.write_all_buf(&mut self.taken).await?;
        }
    }
}

/// A client that types and hangs up at once has typed: what has come is passed on, as far as there is
/// room for it. Not by tokio, which may not have heard yet that there is something to read.
impl Drop for Typing {
    fn drop(&mut self) {
        loop {
            while !self.taken.is_empty() {
                match rustix::io::write(&self.socket, &self.taken) {
                    Ok(len) => self.taken.advance(len),
                    Err(_) => return,
                }
            }
            self.taken.resize(PART, 0);
            match rustix::io::read(&self.pipe, &mut self.taken[..]) {
                Ok(len) if len > 0 => self.taken.truncate(len),
                _ => return,
            }
        }
    }
}

/// Passes on what is typed, to its end; never ends, since the socket is closed with it.
async fn pass_on(mut typing: Option<Typing>) -> Infallible {
    if let Some(typing) = &mut typing {
        // What the container does not take is dropped, as by a pipe that nobody reads.
        let _ = typing.pass_on().await;
    }
    std::future::pending().await
}

fn told(action: &'static str, id: Id, result: Result<Exit, ShimError>) -> Exit {
    result.unwrap_or_else(|source| {
        let error = ContainerError::Shim { action, id, source };
        Exit::Failed(chain(&error))
    })
}

/// Passes sizes on, and never ends.
async fn resize(client: &Client, of: TerminalOf, mut resizes: Resizes) -> Infallible {
    while let Some(size) = resizes.next().await {
        let resize = Resize {
            of: of.clone(),
            columns: size.width,
            rows: size.height,
        };
        if let Err(error) = client.resize(resize).await {
            tracing::debug!(error = chain(&error), "a terminal keeps its size");
        }
    }
    std::future::pending().await
}

fn nowhere() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().write(true).open("/dev/null")?.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[tokio::test]
    async fn the_end_of_input_is_told_from_the_end_of_the_client() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (socket, typing) = over_socket(read).unwrap();
        rustix::io::ioctl_fionbio(&socket, true).unwrap();
        let mut socket = UnixStream::from_std(socket.into()).unwrap();
        let passing = tokio::spawn(pass_on(Some(typing)));
        rustix::io::write(&write, b"typed").unwrap();
        drop(write);
        let mut seen = Vec::new();
        socket.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"typed");
        // The other half stands until the client has gone.
        socket.write_all(b"x").await.unwrap();
        passing.abort();
        assert!(passing.await.unwrap_err().is_cancelled());
        assert!(socket.write_all(b"x").await.is_err());
    }

    /// What it had typed was lost unless it had reached the shim before the client had gone.
    #[tokio::test]
    async fn what_a_client_has_typed_is_passed_on_though_it_goes_at_once() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (socket, typing) = over_socket(read).unwrap();
        let typed = vec![b'x'; 3 * PART + 1];
        rustix::io::write(&write, &typed).unwrap();
        drop(write);
        drop(pass_on(Some(typing)));
        let mut seen = Vec::new();
        std::fs::File::from(socket).read_to_end(&mut seen).unwrap();
        assert_eq!(seen.len(), typed.len());
    }
}
