//! What another OCI runtime says it can do: its command `features` (runtime-spec, features.md).
//!
//! Nobody waits for a runtime but those who want a pod of its handler: each is asked on a thread of
//! its own, for a limited time. Whatever it prints is foreign.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use serde::Deserialize;
use tokio::sync::watch;

use super::Features;

/// How long a runtime may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long anybody waits for it to be known. Longer, because one that takes too long is ended first; and
/// limited, because it may not end, or not even begin: a program on a file system that does not answer.
const AT_MOST: Duration = PATIENCE.saturating_add(Duration::from_secs(1));
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(2);
/// Most bytes of an answer; a pipe holds as many.
const MOST: u64 = 64 * 1024;

/// The part of the answer that matters here.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Answer {
    mount_options: Vec<String>,
    linux: Linux,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Linux {
    namespaces: Vec<String>,
}

/// What a handler can do: known, or asked of its runtime.
#[derive(Debug, Clone)]
pub struct Promise {
    features: watch::Receiver<Option<Features>>,
    asked: Instant,
}

impl Promise {
    /// Known already.
    pub fn kept(features: Features) -> Self {
        Self::new(watch::channel(Some(features)).1)
    }

    /// Asks the runtime at `path` of handler `name`, where skiff itself can do `own`. One that
    /// cannot be asked can do nothing, and the administrator is told.
    ///
    /// The ids of volumes are mapped by the shim, so that a runtime need not do that itself: it has
    /// to join a user namespace.
    pub fn of(name: &str, path: &Path, arguments: &[String], own: Features) -> Self {
        let (known, promise) = watch::channel(None);
        let (name, path, arguments) = (name.to_owned(), path.to_owned(), arguments.to_owned());
        // Without a thread the sender is gone, which is an answer too.
        let _ = std::thread::Builder::new()
            .name("features".into())
            .spawn(move || {
                let answer = ask(&path, &arguments).unwrap_or_else(|reason| {
                    tracing::warn!(
                        handler = name,
                        reason,
                        "it cannot be told what the runtime can do"
                    );
                    Answer::default()
                });
                known.send_replace(Some(judge(&answer, own)));
            });
        Self::new(promise)
    }

    fn new(features: watch::Receiver<Option<Features>>) -> Self {
        Self {
            features,
            asked: Instant::now(),
        }
    }

    /// What is known now: nothing of a runtime that has not answered.
    pub fn now(&self) -> Features {
        self.features.borrow().unwrap_or(Features::NONE)
    }

    /// Whether it is known, or will not be.
    pub fn is_settled(&self) -> bool {
        let has_said = self.features.borrow().is_some();
        has_said || self.features.has_changed().is_err() || self.asked.elapsed() >= AT_MOST
    }

    /// Waits until it is known, as long as a runtime may take.
    pub async fn settled(&self) {
        if self.is_settled() {
            return;
        }
        let mut features = self.features.clone();
        let left = AT_MOST.saturating_sub(self.asked.elapsed());
        // A sender that is gone has nothing more to say, and one that is silent can do nothing.
        let _ = tokio::time::timeout(left, features.wait_for(Option::is_some)).await;
    }
}

fn judge(answer: &Answer, own: Features) -> Features {
    let rro = answer.mount_options.iter().any(|option| option == "rro");
    Features {
        recursive_read_only: own.recursive_read_only && rro,
        user_namespaces: own.user_namespaces && answer.joins_user_namespaces(),
    }
}

impl Answer {
    /// Reads what `features` prints.
    pub fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Whether the runtime knows user namespaces.
    pub fn joins_user_namespaces(&self) -> bool {
        self.linux.namespaces.iter().any(|kind| kind == "user")
    }
}

/// Asks the runtime at `path`, with `arguments` before its command. The error is the reason why it
/// does not answer.
pub fn ask(path: &Path, arguments: &[String]) -> Result<Answer, String> {
    let failed = |e: io::Error| format!("run {} features: {e}", path.display());
    let mut child = Command::new(path)
        .args(arguments)
        .arg("features")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let status = wait(&mut child).map_err(failed)?;
    if !status.success() {
        let words = child.stderr.take().map(said).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let (path, words) = (path.display(), words.trim());
        return Err(format!("{path} features: {status}: {words}"));
    }
    let answer = child.stdout.take().map(said).unwrap_or_default();
    Answer::read(&answer)
        .map_err(|e| format!("read the answer of {} features: {e}", path.display()))
}

/// Waits for a runtime, and ends one that takes too long. What it says is shorter than what a pipe
/// holds, so nobody has to read it meanwhile.
fn wait(child: &mut Child) -> io::Result<std::process::ExitStatus> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > give_up {
            child.kill()?;
        }
        std::thread::sleep(LOOK);
    }
}

/// What is in a pipe, without waiting for more: what the runtime has started may have it open.
fn said(pipe: impl Read + std::os::fd::AsFd) -> Vec<u8> {
    let mut said = Vec::new();
    if fcntl_setfl(&pipe, OFlags::NONBLOCK).is_ok() {
        // What was read before an error is there.
        let _ = pipe.take(MOST).read_to_end(&mut said);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};

    const ALL: Features = Features {
        recursive_read_only: true,
        user_namespaces: true,
    };
    const NONE: Features = Features::NONE;
    const BOTH: &str = r#"{"mountOptions":["rro"],"linux":{"namespaces":["user"]}}"#;

    fn judged(json: &str, own: Features) -> Features {
        judge(&Answer::read(json.as_bytes()).unwrap(), own)
    }

    #[test]
    fn a_handler_can_do_what_both_can() {
        let both = r#"{"mountOptions":["ro","rro"],"linux":{"namespaces":["mount","user"],
                       "cgroup":{"v2":true}}}"#;
        assert_eq!(judged(both, ALL), ALL);
        assert_eq!(judged(both, NONE), NONE);
        assert_eq!(
            judged(
                r#"{"mountOptions":["ro"],"linux":{"namespaces":["mount"]}}"#,
                ALL
            ),
            NONE
        );
        assert_eq!(judged("{}", ALL), NONE);
    }

    /// Arguments with which a shell says and does something.
    fn script(text: impl Into<String>) -> [String; 2] {
        ["-c".into(), text.into()]
    }

    #[test]
    fn a_runtime_that_cannot_be_asked_can_do_nothing() {
        let asked = |path: &str| ask(Path::new(path), &[]).unwrap_err();
        assert!(asked("/no/runc").contains("/no/runc"));
        assert!(asked("/bin/false").contains("/bin/false features"));
        assert!(asked("/bin/echo").contains("read the answer"));
    }

    #[test]
    fn the_administrators_arguments_come_before_the_command() {
        let sh = Path::new("/bin/sh");
        let answer = ask(sh, &script(format!("test $0 = features && echo '{BOTH}'"))).unwrap();
        assert_eq!(judge(&answer, ALL), ALL);
    }

    #[test]
    fn what_a_runtime_leaves_running_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        // The child in the background has the pipes until somebody writes.
        let text = format!("cat {} & echo '{BOTH}'", fifo.display());
        let answer = ask(Path::new("/bin/sh"), &script(text)).unwrap();
        assert_eq!(judge(&answer, ALL), ALL);
        std::fs::write(&fifo, "").unwrap();
    }

    #[tokio::test]
    async fn nobody_waits_for_a_runtime_who_wants_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        let text = format!("read word < {}; echo '{BOTH}'", fifo.display());
        let promise = Promise::of("slow", Path::new("/bin/sh"), &script(text), ALL);
        assert_eq!(promise.now(), NONE);
        std::fs::write(&fifo, "go\n").unwrap();
        promise.settled().await;
        assert_eq!(promise.now(), ALL);
        let absent = Promise::of("absent", Path::new("/no/runc"), &[], ALL);
        absent.settled().await;
        assert_eq!(absent.now(), NONE);
    }

    #[tokio::test]
    async fn a_runtime_that_never_answers_is_not_waited_for_longer() {
        let (_silent, features) = watch::channel(None);
        let mut promise = Promise::new(features);
        assert!(!promise.is_settled());
        promise.asked = Instant::now().checked_sub(AT_MOST).unwrap();
        assert!(promise.is_settled());
        promise.settled().await;
        assert_eq!(promise.now(), NONE);
    }
}
