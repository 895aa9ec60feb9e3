//! Command lines of another runtime, those that runc has and others imitate.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use skiff_shim_proto::message::{ExternalRuntime, Failure, FailureKind};

use super::words::last_error;
use crate::container::Ended;
use crate::failure;
use crate::peers::Asker;
use crate::poll::Key;

/// Where a runtime finds what it starts itself (newuidmap, nvidia's hooks).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most of a log that is read for the reason of a failure, in bytes.
const MAX_LOG: u64 = 64 * 1024;

/// A command that was started and is not reaped.
#[derive(Debug)]
pub(crate) struct Tool {
    /// For messages: the program and its command.
    what: String,
    /// Where it logs, as a line of JSON each.
    log: PathBuf,
    pub(super) purpose: Purpose,
}

/// What a command was started for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// To make a container.
    Create(Key),
    /// To let it run.
    Start(Key),
    /// To send it a signal.
    Kill(Key, Asker),
    /// To change its limits; the score to put back when that fails.
    Update(Key, Asker, Option<i32>),
    /// To forget it.
    Delete(Key),
    /// To run a further process.
    Exec(Key),
}

impl Purpose {
    /// Whether the container's state waits for it: then nothing else is done to the container
    /// until it has ended.
    pub(super) fn takes_on(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Start(_) | Self::Delete(_))
    }

    /// Whether it makes a process.
    pub(super) fn makes(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Exec(_))
    }
}

/// A command to be started.
pub(super) struct Line {
    what: String,
    /// Of the runtime's state; to be there before it starts.
    root: PathBuf,
    log: PathBuf,
    command: Command,
}

impl Line {
    /// The command `word`, without descriptors, logging to `log`.
    pub(super) fn new(runtime: &ExternalRuntime, word: &str, log: PathBuf) -> Self {
        let mut command = Command::new(&runtime.path);
        command
            .env_clear()
            .env("PATH", PATH)
            .args(&runtime.arguments)
            .arg("--root")
            .arg(&runtime.root)
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "json", word])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let what = format!("{} {word}", runtime.path.display());
        let root = runtime.root.clone();
        Self {
            what,
            root,
            log,
            command,
        }
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds an option with its value.
    pub(super) fn option(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.arg(name).arg(value)
    }

    /// What it gets as descriptors 0, 1 and 2.
    pub(super) fn stdio(mut self, [stdin, stdout, stderr]: [Stdio; 3]) -> Self {
        self.command.stdin(stdin).stdout(stdout).stderr(stderr);
        self
    }

    /// Starts it; gives its pid and what to remember of it.
    pub(super) fn start(mut self, purpose: Purpose) -> Result<(i32, Tool), Failure> {
        fs::create_dir_all(&self.root)
            .map_err(|e| failure::system(format!("make directory {}", self.root.display()), &e))?;
        let child = self
            .command
            .spawn()
            .map_err(|e| failure::system(format!("run {}", self.what), &e))?;
        let Self { what, log, .. } = self;
        // Reaped with all the others.
        let pid = child.id().cast_signed();
        Ok((pid, Tool { what, log, purpose }))
    }
}

impl Tool {
    /// What came of it, by how it ended.
    pub(super) fn outcome(&self, ended: Ended) -> Result<(), Failure> {
        let done = ended == Ended { code: 0, signal: 0 };
        let reason = if done { None } else { reason(&self.log) };
        let _ = fs::remove_file(&self.log);
        if done {
            return Ok(());
        }
        let reason = reason.unwrap_or_else(|| match ended.signal {
            0 => format!("ended with exit code {}", ended.code),
            signal => format!("was killed by signal {signal}"),
        });
        Err(failure::new(
            FailureKind::System,
            format!("{}: {reason}", self.what),
        ))
    }
}

/// The last error of a log, of which the end is read.
fn reason(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG)))
        .ok()?;
    let mut text = Vec::new();
    file.take(MAX_LOG).read_to_end(&mut text).ok()?;
    last_error(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(log: &Path) -> Tool {
        Tool {
            what: "/bin/runc create".into(),
            log: log.into(),
            purpose: Purpose::Create(1),
        }
    }

    const FAILED: Ended = Ended { code: 1, signal: 0 };

    #[test]
    fn a_failure_has_the_last_error_of_a_log_however_long() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let debug = "{\"level\":\"debug\",\"msg\":\"d\"}\n".repeat(3000);
        let error = "{\"level\":\"error\",\"msg\":\"no such file\"}\n";
        fs::write(&log, format!("{debug}{error}")).unwrap();
        let failure = tool(&log).outcome(FAILED).unwrap_err();
        assert_eq!(failure.message, "/bin/runc create: no such file");
        assert!(!log.exists());
    }

    #[test]
    fn without_a_word_the_exit_code_has_to_do() {
        let none = Path::new("/no/log");
        let failure = tool(none).outcome(FAILED).unwrap_err();
        assert_eq!(failure.message, "/bin/runc create: ended with exit code 1");
        let failure = tool(none)
            .outcome(Ended {
                code: 137,
                signal: 9,
            })
            .unwrap_err();
        assert_eq!(failure.message, "/bin/runc create: was killed by signal 9");
        assert!(tool(none).outcome(Ended { code: 0, signal: 0 }).is_ok());
    }

    #[test]
    fn a_command_line_has_the_administrators_arguments_first() {
        let runtime = ExternalRuntime {
            path: "/usr/bin/crun".into(),
            arguments: vec!["--debug".into()],
            root: "/run/x".into(),
        };
        let line = Line::new(&runtime, "kill", "/l".into()).arg("c").arg("15");
        let arguments: Vec<_> = line
            .command
            .get_args()
            .map(|a| a.to_str().unwrap())
            .collect();
        assert_eq!(
            arguments.join(" "),
            "--debug --root /run/x --log /l --log-format json kill c 15"
        );
    }
}
