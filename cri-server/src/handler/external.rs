//! What another OCI runtime says it can do: its command `features` (runtime-spec, features.md).

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Features;

/// How long a runtime may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(2);

/// The part of the answer that matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Answer {
    mount_options: Vec<String>,
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Linux {
    namespaces: Vec<String>,
}

/// What a handler with the runtime at `path` can do, where skiff itself can do `own`.
///
/// The ids of volumes are mapped by the shim, so that a runtime need not do that itself: it has to
/// join a user namespace.
pub fn features(name: &str, path: &Path, own: Features) -> Features {
    let answer = match ask(path) {
        Ok(answer) => answer,
        Err(reason) => {
            tracing::warn!(
                handler = name,
                reason,
                "it cannot be told what the runtime can do"
            );
            Answer::default()
        }
    };
    judge(&answer, own)
}

fn judge(answer: &Answer, own: Features) -> Features {
    let rro = answer.mount_options.iter().any(|option| option == "rro");
    Features {
        recursive_read_only: own.recursive_read_only && rro,
        user_namespaces: own.user_namespaces && answer.joins_user_namespaces(),
    }
}

impl Answer {
    /// Whether the runtime knows user namespaces.
    pub fn joins_user_namespaces(&self) -> bool {
        self.linux.namespaces.iter().any(|kind| kind == "user")
    }
}

/// Asks the runtime at `path`. The error is the reason why it does not answer.
pub fn ask(path: &Path) -> Result<Answer, String> {
    let failed = |e: io::Error| format!("run {} features: {e}", path.display());
    let mut child = Command::new(path)
        .arg("features")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // The answer is shorter than what a pipe holds, so nobody has to read it meanwhile.
    let give_up = Instant::now() + PATIENCE;
    while child.try_wait().map_err(failed)?.is_none() {
        if Instant::now() > give_up {
            let _ = child.kill();
        }
        std::thread::sleep(LOOK);
    }
    let asked = child.wait_with_output().map_err(failed)?;
    if !asked.status.success() {
        let words = String::from_utf8_lossy(&asked.stderr);
        let (path, words) = (path.display(), words.trim());
        return Err(format!("{path} features: {}: {words}", asked.status));
    }
    serde_json::from_slice(&asked.stdout)
        .map_err(|e| format!("read the answer of {} features: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Features = Features {
        recursive_read_only: true,
        user_namespaces: true,
    };
    const NONE: Features = Features {
        recursive_read_only: false,
        user_namespaces: false,
    };

    fn judged(json: &str, own: Features) -> Features {
        judge(&serde_json::from_str(json).unwrap(), own)
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

    #[test]
    fn a_runtime_that_cannot_be_asked_can_do_nothing() {
        assert!(ask(Path::new("/no/runc")).unwrap_err().contains("/no/runc"));
        assert!(
            ask(Path::new("/bin/false"))
                .unwrap_err()
                .contains("/bin/false features")
        );
        assert!(
            ask(Path::new("/bin/echo"))
                .unwrap_err()
                .contains("read the answer")
        );
    }
}
