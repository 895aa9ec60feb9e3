//! A command in a running container, with its output collected: what ExecSync does.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};
use skiff_shim_proto::message::{Exec, FailureKind};
use skiff_spec::exec_process;
use tokio::net::unix::pipe::Receiver;

use super::error::ContainerError;
use super::state::Denied;
use super::view::ContainerView;
use crate::id::Id;
use crate::shim::{Client, ShimError};

/// Most bytes kept of each of the two streams; what follows is discarded.
const LIMIT: usize = 16 * 1024 * 1024;
/// Longest wait for a command that is killed: one in an uninterruptible sleep goes when it can.
const DYING: Duration = Duration::from_secs(2);
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// What a command left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// At most 16 MiB of its standard output.
    pub stdout: Vec<u8>,
    /// At most 16 MiB of its standard error.
    pub stderr: Vec<u8>,
    /// 0-255; 128 + signal for a signalled process; as a shell gives it for a command that cannot
    /// be executed.
    pub exit_code: i32,
}

/// Runs `command` in a container and collects its output. A limit of `None` is none. When the
/// limit is over, or the returned future is dropped, the command is killed with its descendants; the
/// former is told when it is gone, or after 2 s.
pub async fn exec(
    client: &Client,
    container: &ContainerView,
    command: &[String],
    limit: Option<Duration>,
) -> Result<Output, ContainerError> {
    let id = container.facts.id.clone();
    let denied = |denied| ContainerError::Denied {
        action: "exec in",
        id: id.clone(),
        denied,
    };
    if !container.state.is_running() {
        return Err(denied(Denied::NotRunning));
    }
    let process = exec_process(&container.facts.process, command, false)
        .ok_or_else(|| denied(Denied::NotRunning))?;
    let pipes = Stream::open().and_then(|out| Ok((out, Stream::open()?)));
    let ((stdout, out), (stderr, err)) = pipes.map_err(|source| ContainerError::File {
        action: "make pipes for an exec in",
        path: id.as_str().into(),
        source,
    })?;
    let exec_id = client.exec_id();
    let exec = Exec {
        exec_id,
        id: id.to_string(),
        process,
        stdin: false,
        terminal: false,
    };
    let mut kill = KillOnDrop::new(client, exec_id);
    let run = collect(client.exec(exec, vec![out, err]), stdout, stderr);
    let result = match limit {
        None => run.await,
        Some(limit) => {
            let mut run = std::pin::pin!(run);
            match tokio::time::timeout(limit, &mut run).await {
                Ok(result) => result,
                Err(_) => {
                    kill.now();
                    // Who is told may look for the process at once.
                    let _ = tokio::time::timeout(DYING, run).await;
                    return Err(timed_out(id, command, limit));
                }
            }
        }
    };
    kill.disarm();
    result.or_else(|source| not_executed(id, source))
}

fn timed_out(id: Id, command: &[String], limit: Duration) -> ContainerError {
    let command = command.first().cloned().unwrap_or_default();
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    ContainerError::ExecTimeout {
        id,
        command,
        seconds,
    }
}

/// A command that is not there has an exit code like any other that fails.
fn not_executed(id: Id, source: ShimError) -> Result<Output, ContainerError> {
    match &source {
        ShimError::Refused(failure) => match failure.kind {
            FailureKind::Command { exit_code } => {
                let stderr = format!("{}\n", failure.message).into_bytes();
                Ok(Output {
                    stdout: Vec::new(),
                    stderr,
                    exit_code,
                })
            }
            _ => Err(ContainerError::Shim {
                action: "exec in",
                id,
                source,
            }),
        },
        _ => Err(ContainerError::Shim {
            action: "exec in",
            id,
            source,
        }),
    }
}

/// Reads both streams until the command ends, and then what is left in the pipes: a descendant
/// that still holds them open must not hold the call.
async fn collect(
    exit: impl Future<Output = Result<i32, ShimError>>,
    mut stdout: Stream,
    mut stderr: Stream,
) -> Result<Output, ShimError> {
    let mut exit = std::pin::pin!(exit);
    let exit_code = loop {
        tokio::select! {
            code = &mut exit => break code?,
            () = stdout.fill(), if stdout.open => {}
            () = stderr.fill(), if stderr.open => {}
        }
    };
    stdout.drain();
    stderr.drain();
    Ok(Output {
        stdout: stdout.kept,
        stderr: stderr.kept,
        exit_code,
    })
}

/// Kills an exec that is given up.
pub(super) struct KillOnDrop<'a> {
    client: &'a Client,
    exec_id: u64,
    armed: bool,
}

impl<'a> KillOnDrop<'a> {
    pub(super) fn new(client: &'a Client, exec_id: u64) -> Self {
        Self {
            client,
            exec_id,
            armed: true,
        }
    }

    /// Kills it, once.
    fn now(&mut self) {
        if std::mem::take(&mut self.armed) {
            let (client, exec_id) = (self.client.clone(), self.exec_id);
            tokio::spawn(async move {
                // One that has ended meanwhile needs no killing.
                let _ = client.kill_exec(exec_id).await;
            });
        }
    }

    /// The exec has ended by itself.
    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        self.now();
    }
}

/// One stream of output.
struct Stream {
    pipe: Receiver,
    capacity: usize,
    kept: Vec<u8>,
    open: bool,
}

impl Stream {
    /// A stream, and the end that the command writes to.
    fn open() -> io::Result<(Self, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        let capacity = fcntl_getpipe_size(&read)?;
        let pipe = Receiver::from_owned_fd(read)?;
        Ok((
            Self {
                pipe,
                capacity,
                kept: Vec::new(),
                open: true,
            },
            write,
        ))
    }

    /// Waits for output and reads once.
    async fn fill(&mut self) {
        match self.pipe.readable().await {
            Ok(()) => self.read(|pipe, chunk| pipe.try_read(chunk)),
            Err(e) => self.read(|_, _| Err(e)),
        };
    }

    /// Reads what is there now, at most what the pipe can hold: somebody may go on writing. Asks
    /// the pipe itself: the runtime may not have heard yet of what the command wrote last.
    fn drain(&mut self) {
        let mut left = self.capacity;
        while self.open && left > 0 {
            match self.read(|pipe, chunk| Ok(rustix::io::read(pipe, chunk)?)) {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
    }

    /// Reads once and keeps what fits; 0 when there was nothing. Not async, so that its buffer is
    /// not part of anybody's future.
    fn read(&mut self, read: impl FnOnce(&Receiver, &mut [u8]) -> io::Result<usize>) -> usize {
        let mut chunk = [0; CHUNK];
        match read(&self.pipe, &mut chunk) {
            Ok(read) if read > 0 => {
                let room = LIMIT - self.kept.len();
                self.kept.extend_from_slice(&chunk[..read.min(room)]);
                read
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Ok(_) | Err(_) => {
                self.open = false;
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn a_descendant_that_holds_the_pipe_does_not_hold_the_call() {
        let (stdout, write) = Stream::open().unwrap();
        let (stderr, _) = Stream::open().unwrap();
        let mut held = std::fs::File::from(write);
        held.write_all(b"hello").unwrap();
        let output = collect(std::future::ready(Ok(3)), stdout, stderr)
            .await
            .unwrap();
        assert_eq!(
            (output.stdout.as_slice(), output.exit_code),
            (&b"hello"[..], 3)
        );
    }

    #[tokio::test]
    async fn output_over_the_limit_is_discarded_and_does_not_block_the_writer() {
        let (stdout, write) = Stream::open().unwrap();
        let (stderr, _) = Stream::open().unwrap();
        let (done, exit) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut file = std::fs::File::from(write);
            for _ in 0..(LIMIT / CHUNK + 3) {
                file.write_all(&[7; CHUNK]).unwrap();
            }
            done.send(()).unwrap();
        });
        let exit = async { exit.await.map(|()| 0).map_err(|_| unreachable!()) };
        let output = collect(exit, stdout, stderr).await.unwrap();
        assert_eq!(output.stdout.len(), LIMIT);
    }
}
