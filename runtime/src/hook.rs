//! Hooks of the runtime-spec.

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::Error;
use crate::oci_spec::runtime::{ContainerState, Hook, Spec, State, StateBuilder};

/// Runs hooks one after the other, each with the container's state on its standard input. The
/// first that fails ends the row.
pub fn run(kind: &'static str, hooks: &[Hook], state: &State) -> Result<(), Error> {
    hooks.iter().try_for_each(|hook| {
        run_one(hook, state).map_err(|problem| Error::Hook {
            kind,
            path: hook.path().clone(),
            problem,
        })
    })
}

fn run_one(hook: &Hook, state: &State) -> Result<(), String> {
    let mut command = Command::new(hook.path());
    if let Some((name, args)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(args);
    }
    command.env_clear();
    for variable in hook.env().iter().flatten() {
        match variable.split_once('=') {
            Some((name, value)) if !name.is_empty() => command.env(name, value),
            _ => return Err(format!("environment {variable:?} is not NAME=value")),
        };
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot be executed: {e}"))?;
    let state = serde_json::to_vec(state).map_err(|e| e.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its state.
        let _ = stdin.write_all(&state);
    }
    if let Some(seconds) = hook.timeout() {
        let timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if !ends_within(child.id(), timeout).map_err(|e| e.to_string())? {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("still running after {seconds} s, killed"));
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(how(status))
    }
}

fn ends_within(pid: u32, timeout: Duration) -> rustix::io::Result<bool> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(true);
    };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = Timespec::try_from(timeout).ok();
    Ok(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref())? > 0)
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (_, Some(signal)) => format!("killed by signal {signal}"),
        _ => "ended strangely".to_owned(),
    }
}

/// The state that hooks are told.
pub(crate) fn state(
    id: &str,
    spec: &Spec,
    bundle: &Path,
    status: ContainerState,
    pid: i32,
) -> Result<State, Error> {
    StateBuilder::default()
        .version(spec.version().clone())
        .id(id)
        .status(status)
        .pid(pid)
        .bundle(bundle)
        .annotations(spec.annotations().clone().unwrap_or_default())
        .build()
        .map_err(|e| Error::invalid("state", e.to_string()))
}

/// Hooks that run outside of the container once its namespaces are there.
#[derive(Debug)]
pub(crate) struct Outside {
    rows: [(&'static str, Vec<Hook>); 2],
    state: State,
}

impl Outside {
    /// `None` when there is no such hook.
    pub(crate) fn of(id: &str, spec: &Spec, bundle: &Path) -> Result<Option<Self>, Error> {
        let Some(hooks) = spec.hooks() else {
            return Ok(None);
        };
        let rows = [
            ("prestart", hooks.prestart().clone().unwrap_or_default()),
            (
                "createRuntime",
                hooks.create_runtime().clone().unwrap_or_default(),
            ),
        ];
        if rows.iter().all(|(_, hooks)| hooks.is_empty()) {
            return Ok(None);
        }
        let state = state(id, spec, bundle, ContainerState::Creating, 0)?;
        Ok(Some(Self { rows, state }))
    }

    /// Runs them for the container whose first process is `pid`.
    pub(crate) fn run(mut self, pid: i32) -> Result<(), Error> {
        self.state.set_pid(Some(pid));
        self.rows
            .iter()
            .try_for_each(|(kind, hooks)| run(kind, hooks, &self.state))
    }
}

/// Hooks that the child runs itself.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    pub(crate) create_container: Vec<Hook>,
    pub(crate) start_container: Vec<Hook>,
    /// Told to the hooks; the pid is set in the child.
    pub(crate) state: State,
    /// Where the hooks of the first kind look for the container's root: the configuration's own.
    pub(crate) root: Option<PathBuf>,
}

impl Inside {
    /// `None` when there is no such hook.
    pub(crate) fn of(id: &str, spec: &Spec, bundle: &Path) -> Result<Option<Self>, Error> {
        let Some(hooks) = spec.hooks() else {
            return Ok(None);
        };
        let create_container = hooks.create_container().clone().unwrap_or_default();
        let start_container = hooks.start_container().clone().unwrap_or_default();
        if create_container.is_empty() && start_container.is_empty() {
            return Ok(None);
        }
        let state = state(id, spec, bundle, ContainerState::Creating, 0)?;
        let root = spec.root().as_ref().map(|root| bundle.join(root.path()));
        Ok(Some(Self {
            create_container,
            start_container,
            state,
            root,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci_spec::runtime::HookBuilder;

    fn shell(script: &str, timeout: Option<i64>) -> Hook {
        let mut hook = HookBuilder::default()
            .path("/bin/sh")
            .args(["sh", "-c", script].map(str::to_owned).to_vec())
            .env(vec!["WORD=x".to_owned()])
            .build()
            .unwrap();
        hook.set_timeout(timeout);
        hook
    }

    fn state() -> State {
        super::state(
            "id",
            &Spec::default(),
            Path::new("/b"),
            ContainerState::Created,
            7,
        )
        .unwrap()
    }

    #[test]
    fn state_arrives_on_standard_input_and_environment_is_the_hooks_own() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let script = format!("/bin/cat > {0}; echo $WORD$HOME >> {0}", out.display());
        run("poststart", &[shell(&script, None)], &state()).unwrap();
        let text = std::fs::read_to_string(out).unwrap();
        let (json, word) = text.split_at(text.rfind('}').unwrap() + 1);
        let told: State = serde_json::from_str(json).unwrap();
        assert_eq!((told.id().as_str(), told.pid()), ("id", &Some(7)));
        assert_eq!(word.trim(), "x");
    }

    #[test]
    fn first_failure_ends_the_row_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let second = format!("/bin/touch {}", dir.path().join("ran").display());
        let row = [shell("exit 3", None), shell(&second, None)];
        let error = run("poststop", &row, &state()).unwrap_err().to_string();
        assert_eq!(error, "poststop hook /bin/sh: exited with 3");
        assert!(!dir.path().join("ran").exists());
    }

    #[test]
    fn hook_that_hangs_is_killed_after_its_timeout() {
        let error = run(
            "prestart",
            &[shell("while :; do :; done", Some(0))],
            &state(),
        );
        assert!(error.unwrap_err().to_string().contains("still running"));
    }

    #[test]
    fn hook_that_is_not_there_is_named() {
        let hook = HookBuilder::default()
            .path("/no/such/hook")
            .build()
            .unwrap();
        let error = run("prestart", &[hook], &state()).unwrap_err().to_string();
        assert!(error.contains("/no/such/hook"), "{error}");
    }
}
