//! A command in a running container, with its output collected: what ExecSync does.

use std::time::Duration;

use skiff_shim_proto::message::{Exec, FailureKind};
use skiff_spec::exec_process;

use super::error::ContainerError;
pub use super::output::Output;
use super::output::Pipes;
use super::state::Denied;
use super::view::ContainerView;
use crate::id::Id;
use crate::shim::{Client, ShimError};

/// Longest wait for a command that is killed: one in an uninterruptible sleep goes when it can.
const DYING: Duration = Duration::from_secs(2);

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
    let file = |action, source| ContainerError::File {
        action,
        path: id.as_str().into(),
        source,
    };
    let (pipes, ends) = Pipes::open().map_err(|e| file("make pipes for an exec in", e))?;
    let exec_id = client.exec_id();
    let exec = Exec {
        exec_id,
        id: id.to_string(),
        process,
        stdin: false,
        terminal: false,
    };
    let mut kill = KillOnDrop::new(client, exec_id);
    let run = pipes.collect(client.exec(exec, ends.into()));
    let collected = match limit {
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
    let result = collected.map_err(|e| file("watch the pipes of an exec in", e))?;
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
