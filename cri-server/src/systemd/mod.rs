//! Scopes: the part of the cgroup hierarchy that systemd leaves to us, one for each pod.
//!
//! A scope is asked for over D-Bus when a pod is started, beside its network, and holds all that
//! follows: containers are made below it by their shim as they are anywhere else, and systemd
//! writes to nothing below a delegated unit. It needs a process from its beginning to its end, for
//! which there is the pod's init; when that ends with the pod, systemd takes the scope away
//! (docs/adr/008-cgroup-drivers.md).

mod slice;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::oneshot;
use zbus::{Connection, MatchRule, MessageStream, ObjectPath, Variant};

/// There while systemd is PID 1 (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// Slice of the pods whose request names none.
const OWN: &str = "skiff.slice";
/// How long systemd may take to make a scope.
const PATIENCE: Duration = Duration::from_secs(30);

const SERVICE: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Why there is no scope.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// No bus, or no systemd on it.
    #[error(
        "connect to systemd over the system bus; without a bus set cgroup_driver = \"cgroupfs\""
    )]
    Connect(#[source] zbus::Error),
    /// systemd refused.
    #[error("start {unit}")]
    Start {
        /// The scope.
        unit: String,
        /// Its answer.
        #[source]
        source: zbus::Error,
    },
    /// systemd tried and failed.
    #[error("start {unit}: systemd's job ended with {result:?}; see systemctl status {unit}")]
    Job {
        /// The scope.
        unit: String,
        /// What became of the job.
        result: String,
    },
    /// systemd says nothing.
    #[error("start {unit}: systemd did not say within {seconds} s that it is done")]
    Silent {
        /// The scope.
        unit: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The bus is gone.
    #[error("start {unit}: the connection to systemd has ended")]
    Gone {
        /// The scope.
        unit: String,
    },
    /// The kernel refused what is done below the scope.
    #[error("{action} {}", path.display())]
    Cgroup {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

/// Whether systemd is PID 1.
pub fn is_booted() -> bool {
    Path::new(BOOTED).is_dir()
}

/// A pod's scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    slice: String,
    unit: String,
    /// Its cgroup, relative to the root of the hierarchy.
    pub path: PathBuf,
}

impl Scope {
    /// The scope `<name>.scope` in the slice that a `cgroup_parent` names, or in our own.
    pub fn new(parent: &str, name: &str) -> Result<Self, String> {
        let slice = slice::name(if parent.is_empty() { OWN } else { parent })?;
        let unit = format!("{name}.scope");
        Ok(Self {
            slice: slice.to_owned(),
            path: slice::path(slice)?.join(&unit),
            unit,
        })
    }
}

/// The connection to systemd, made when it is first needed.
#[derive(Debug, Default)]
pub struct Systemd(tokio::sync::Mutex<Option<Bus>>);

#[derive(Debug, Clone)]
struct Bus {
    connection: Connection,
    jobs: Jobs,
}

/// Who waits for the end of which unit's job; `None` once the connection has ended.
type Jobs = Arc<Mutex<Option<HashMap<String, oneshot::Sender<String>>>>>;

impl Systemd {
    /// Makes a scope of which `pid` is the first process, and waits for systemd to be done.
    pub async fn start(&self, scope: &Scope, pid: i32) -> Result<(), SystemdError> {
        let unit = scope.unit.clone();
        let bus = self.bus().await.map_err(SystemdError::Connect)?;
        let (sender, ended) = oneshot::channel();
        match lock(&bus.jobs).as_mut() {
            Some(jobs) => jobs.insert(unit.clone(), sender),
            None => return Err(SystemdError::Gone { unit }),
        };
        // A caller that gives up must not leave its entry behind.
        let _forget = Forget(&bus.jobs, &unit);
        let started = bus.start_transient(scope, pid).await;
        started.map_err(|source| SystemdError::Start {
            unit: unit.clone(),
            source,
        })?;
        match tokio::time::timeout(PATIENCE, ended).await {
            Ok(Ok(result)) if result == "done" => Ok(()),
            Ok(Ok(result)) => Err(SystemdError::Job {
                unit: unit.clone(),
                result,
            }),
            Ok(Err(_)) => Err(SystemdError::Gone { unit: unit.clone() }),
            Err(_) => Err(SystemdError::Silent {
                unit: unit.clone(),
                seconds: PATIENCE.as_secs(),
            }),
        }
    }

    async fn bus(&self) -> zbus::Result<Bus> {
        let mut known = self.0.lock().await;
        if let Some(bus) = known.as_ref().filter(|bus| lock(&bus.jobs).is_some()) {
            return Ok(bus.clone());
        }
        let bus = Bus::connect().await?;
        Ok(known.insert(bus).clone())
    }
}

impl Bus {
    async fn connect() -> zbus::Result<Self> {
        let connection = Connection::system().await?;
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(SERVICE)
            .path(OBJECT)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()?;
        let signals = MessageStream::for_match_rule(rule, &connection, None).await?;
        let jobs = Jobs::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(listen(signals, Arc::clone(&jobs)));
        Ok(Self { connection, jobs })
    }

    async fn start_transient(&self, scope: &Scope, pid: i32) -> zbus::Result<()> {
        let all = || Variant::from(u64::MAX);
        let properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", "Kubernetes pod run by skiff".into()),
            ("Slice", scope.slice.as_str().into()),
            ("PIDs", vec![pid.unsigned_abs()].into()),
            ("Delegate", true.into()),
            // The kubelet ends pods when the node goes down.
            ("DefaultDependencies", false.into()),
            ("CollectMode", "inactive-or-failed".into()),
            // The limits are those of the slice above and of the containers below: here nothing
            // is held back, and what the slice is guaranteed is passed on.
            ("TasksMax", all()),
            ("MemoryMin", all()),
            ("MemoryLow", all()),
        ];
        let none: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let arguments = (scope.unit.as_str(), "fail", properties, none);
        let method = "StartTransientUnit";
        self.connection
            .call_method(Some(SERVICE), OBJECT, Some(MANAGER), method, &arguments)
            .await?;
        Ok(())
    }
}

async fn listen(mut signals: MessageStream, jobs: Jobs) {
    while let Some(Ok(signal)) = signals.next().await {
        let body = signal.body();
        let removed = body.deserialize::<(u32, ObjectPath<'_>, &str, &str)>();
        let Ok((_, _, unit, result)) = removed else {
            continue;
        };
        let waiter = lock(&jobs).as_mut().and_then(|jobs| jobs.remove(unit));
        if let Some(waiter) = waiter {
            let _ = waiter.send(result.to_owned());
        }
    }
    // Dropping the senders tells those who wait.
    lock(&jobs).take();
}

fn lock(jobs: &Jobs) -> MutexGuard<'_, Option<HashMap<String, oneshot::Sender<String>>>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Forget<'a>(&'a Jobs, &'a str);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(jobs) = lock(self.0).as_mut() {
            jobs.remove(self.1);
        }
    }
}

/// Makes room in a new scope: its process moves to `leaf`, a cgroup below it, for a cgroup has
/// either processes or controllers for those below it; and these get all controllers that there
/// are.
pub fn settle(scope: &Path, leaf: &Path, pid: i32) -> Result<(), SystemdError> {
    let failed = |action, path: PathBuf| {
        move |source| SystemdError::Cgroup {
            action,
            path,
            source,
        }
    };
    std::fs::create_dir(leaf).map_err(failed("make cgroup", leaf.into()))?;
    let procs = leaf.join("cgroup.procs");
    std::fs::write(&procs, pid.to_string()).map_err(failed("move the pod's init to", procs))?;
    let controllers = scope.join("cgroup.controllers");
    let list = std::fs::read_to_string(&controllers).map_err(failed("read", controllers))?;
    let list: Vec<_> = list
        .split_whitespace()
        .map(|name| format!("+{name}"))
        .collect();
    let passed = scope.join("cgroup.subtree_control");
    std::fs::write(&passed, list.join(" ")).map_err(failed("pass controllers down in", passed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_in_its_slice() {
        let scope = Scope::new("kubepods-podx.slice", "skiff-1").unwrap();
        let path = "kubepods.slice/kubepods-podx.slice/skiff-1.scope";
        assert_eq!(scope.path, Path::new(path));
        assert_eq!(
            (&*scope.slice, &*scope.unit),
            ("kubepods-podx.slice", "skiff-1.scope")
        );
        let own = Scope::new("", "skiff-1").unwrap();
        assert_eq!(own.path, Path::new("skiff.slice/skiff-1.scope"));
        assert!(Scope::new("/kubepods/podx", "skiff-1").is_err());
    }
}
