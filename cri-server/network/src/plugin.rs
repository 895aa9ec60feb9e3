//! Runs one plugin once.
//!
//! Invariants: a plugin is spawned without fork (no `pre_exec`), in a process group of its own;
//! when its time is up, or the caller loses interest, the whole group is killed. What it prints
//! is bounded. An answer counts when the plugin has exited: a descendant that keeps the pipes
//! open delays nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::capture::{Capture, MAX_ANSWER, excerpt};

/// How often and how long apart a binary that is just being written is tried.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Variables systemd means for the daemon alone.
const NOT_INHERITED: [&str; 6] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Why a plugin gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No such binary.
    #[error("no executable file of that name in {}", list(.0))]
    NotFound(Vec<PathBuf>),
    /// The binary could not be run.
    #[error("cannot run {}: {source}", path.display())]
    Spawn {
        /// The binary.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It ran longer than allowed and was killed.
    #[error("killed after {} s without an answer{}", .after.as_secs_f32(), said(.stderr))]
    TimedOut {
        /// The limit.
        after: Duration,
        /// End of its standard error.
        stderr: String,
    },
    /// It said what is wrong, in the manner of the specification.
    #[error("{msg}{}{} (code {code})", if details.is_empty() { "" } else { ": " }, details)]
    Refused {
        /// The specification's or, from 100, the plugin's own number.
        code: u64,
        /// Short text.
        msg: String,
        /// Long text, may be empty.
        details: String,
    },
    /// It failed without saying why in the manner of the specification.
    #[error("{status}{}", said(.output))]
    Died {
        /// Exit code or signal.
        status: ExitStatus,
        /// End of its standard error, or else of its standard output.
        output: String,
    },
    /// It succeeded with an answer that is none.
    #[error("bad answer: {reason}{}", said(.output))]
    Garbage {
        /// What is wrong with it.
        reason: String,
        /// Its beginning.
        output: String,
    },
    /// Talking to it failed.
    #[error("pipe: {0}")]
    Pipe(#[from] io::Error),
}

/// What a failing plugin prints.
#[derive(Deserialize)]
struct Refusal {
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: Value,
}

/// Finds and runs plugins.
#[derive(Debug)]
pub(crate) struct Launcher {
    bin_dirs: Vec<PathBuf>,
    cni_path: OsString,
    environment: Vec<(OsString, OsString)>,
    found: Mutex<HashMap<String, PathBuf>>,
}

impl Launcher {
    /// Plugins inherit `environment`, but for what concerns the daemon alone: they need PATH for
    /// iptables, and some look for proxies or a home.
    pub(crate) fn new(
        bin_dirs: &[PathBuf],
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Self {
        let inherited = |(key, _): &(OsString, OsString)| {
            let key = key.to_string_lossy();
            !key.starts_with("CNI_") && !NOT_INHERITED.contains(&key.as_ref())
        };
        let cni_path: Vec<&OsStr> = bin_dirs.iter().map(|dir| dir.as_os_str()).collect();
        Self {
            bin_dirs: bin_dirs.to_vec(),
            cni_path: cni_path.join(OsStr::new(":")),
            environment: environment.filter(inherited).collect(),
            found: Mutex::default(),
        }
    }

    /// The binary of a plugin: the first executable file of that name in the directories.
    pub(crate) fn find(&self, kind: &str) -> Result<PathBuf, PluginError> {
        if let Some(path) = self.found().get(kind) {
            return Ok(path.clone());
        }
        let path = self
            .bin_dirs
            .iter()
            .map(|dir| dir.join(kind))
            .find(|path| is_executable(path))
            .ok_or_else(|| PluginError::NotFound(self.bin_dirs.clone()))?;
        self.found().insert(kind.to_owned(), path.clone());
        Ok(path)
    }

    /// Forgets where plugins are, after something changed in the directories.
    pub(crate) fn forget(&self) {
        self.found().clear();
    }

    fn found(&self) -> std::sync::MutexGuard<'_, HashMap<String, PathBuf>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the plugin with `variables` in its environment and `request` on its standard input.
    /// Returns what it printed if it exited with 0 within `limit`.
    pub(crate) async fn run(
        &self,
        kind: &str,
        variables: &[(&'static str, OsString)],
        request: &str,
        limit: Duration,
    ) -> Result<Vec<u8>, PluginError> {
        let mut running = self.spawn(kind, variables).await?;
        let exit = tokio::time::timeout(limit, running.exit(request.as_bytes())).await;
        let (stdout, stderr) = (&running.stdout, &running.stderr);
        match exit {
            Err(_) => Err(PluginError::TimedOut {
                after: limit,
                stderr: stderr.tail(),
            }),
            Ok(Err(source)) => Err(PluginError::Pipe(source)),
            Ok(Ok(status)) if !status.success() => Err(failure(status, stdout, stderr)),
            Ok(Ok(_)) if stdout.overflown => Err(PluginError::Garbage {
                reason: format!("longer than {MAX_ANSWER} bytes"),
                output: excerpt(&stdout.bytes),
            }),
            Ok(Ok(_)) => Ok(std::mem::take(&mut running.stdout.bytes)),
        }
    }

    /// Spawns, looking for the binary anew if it is no longer where it was found, and waiting
    /// for an installer that has it open for writing.
    async fn spawn(
        &self,
        kind: &str,
        variables: &[(&'static str, OsString)],
    ) -> Result<Running, PluginError> {
        let mut path = self.find(kind)?;
        let mut tries = 0;
        loop {
            let error = match self.spawn_at(&path, variables) {
                Ok(running) => return Ok(running),
                Err(error) => error,
            };
            tries += 1;
            match error.kind() {
                io::ErrorKind::NotFound if tries == 1 => {
                    self.forget();
                    path = self.find(kind)?;
                }
                io::ErrorKind::ExecutableFileBusy if tries < BUSY_TRIES => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                _ => {
                    return Err(PluginError::Spawn {
                        path,
                        source: error,
                    });
                }
            }
        }
    }

    fn spawn_at(&self, path: &Path, variables: &[(&'static str, OsString)]) -> io::Result<Running> {
        let (stdout, stdout_end) = io::pipe()?;
        let (stderr, stderr_end) = io::pipe()?;
        let mut command = Command::new(path);
        command
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .envs(variables.iter().map(|(key, value)| (key, value)))
            .env("CNI_PATH", &self.cni_path)
            .stdin(Stdio::piped())
            .stdout(stdout_end)
            .stderr(stderr_end)
            .process_group(0);
        let child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Running {
            child,
            group: Group(group),
            stdout: Capture::new(stdout.into())?,
            stderr: Capture::new(stderr.into())?,
        })
    }
}

/// A plugin at work. Dropping it kills it and what it started.
struct Running {
    // Dropped first: its number is sure to be the plugin's own only until `child` is reaped.
    group: Group,
    child: Child,
    stdout: Capture,
    stderr: Capture,
}

impl Running {
    /// Feeds the plugin and collects what it prints, until it has exited.
    async fn exit(&mut self, request: &[u8]) -> io::Result<ExitStatus> {
        let stdin = self.child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A plugin need not read its request; it is judged by what it answers.
                let _ = stdin.write_all(request).await;
            }
            std::future::pending::<Infallible>().await
        };
        let status = tokio::select! {
            status = self.child.wait() => status?,
            never = feed => match never {},
            error = self.stdout.fill() => return Err(error),
            error = self.stderr.fill() => return Err(error),
        };
        self.group.0 = None;
        self.stdout.drain()?;
        self.stderr.drain()?;
        Ok(status)
    }
}

/// A process group whose leader has not been waited for, so that its number is still its own.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn failure(status: ExitStatus, stdout: &Capture, stderr: &Capture) -> PluginError {
    match serde_json::from_slice::<Refusal>(&stdout.bytes) {
        Ok(refusal) if status.signal().is_none() => PluginError::Refused {
            code: refusal.code,
            msg: refusal.msg,
            details: match refusal.details {
                Value::Null => String::new(),
                Value::String(text) => text,
                other => other.to_string(),
            },
        },
        _ => {
            let said = if stderr.bytes.is_empty() {
                stdout
            } else {
                stderr
            };
            PluginError::Died {
                status,
                output: said.tail(),
            }
        }
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn list(dirs: &[PathBuf]) -> impl fmt::Display {
    dirs.iter()
        .map(|dir| dir.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn said(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!(", it printed: {output}")
    }
}

#[cfg(test)]
#[path = "plugin_tests.rs"]
mod tests;
