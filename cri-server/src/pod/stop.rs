//! Gives back what a pod holds outside its own directory. Every part may be gone already: this
//! runs when a pod is stopped, when it could not be started, and after its shim or an earlier
//! daemon has died.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::error::PodError;
use super::record::PodRecord;
use crate::cgroup;
use crate::daemon::Daemon;
use crate::id::Id;
use crate::layout::Layout;
use crate::netns;
use crate::record;
use crate::shim::process::ProcessId;
use crate::shim::{Client, Process, ShimError};
use crate::telemetry::NetworkOperation;

/// How long a shim may take to end after it said it would.
const GOODBYE: Duration = Duration::from_secs(10);

/// What a pod holds.
pub struct Remains {
    /// Pod id.
    pub id: Id,
    /// To talk to its shim; `None` when there is none to talk to.
    pub client: Option<Client>,
    /// Name of the shim's run directory.
    pub shim: String,
    /// The shim's process; `None` when it is of an earlier boot, for then the pid is another's.
    pub process: Option<ProcessId>,
    /// Containers whose processes may run.
    pub running: Vec<Id>,
    /// Where its network namespace is bound, for which CNI plugins may hold something.
    pub netns: Option<PathBuf>,
    /// What another runtime knows of its containers.
    pub runtime_state: Option<PathBuf>,
    /// Cgroups whose processes the shim's end must leave empty.
    pub cgroups: Vec<PathBuf>,
}

impl Remains {
    /// What a pod without containers holds by its record: of a pod of an earlier boot only what
    /// outlives one, names and what plugins hold.
    pub fn of(record: &PodRecord, client: Option<Client>, daemon: &Daemon) -> Self {
        let parent = daemon.cgroup_root.join(&record.cgroup_parent);
        let own = parent.join(cgroup::name(&record.id));
        let lives = record.boot_id == daemon.boot_id;
        Self {
            id: record.id.clone(),
            client: client.filter(|_| lives),
            shim: record.shim.id.clone(),
            process: lives.then_some(record.shim.process),
            running: Vec::new(),
            netns: record.netns.clone(),
            runtime_state: record
                .external
                .as_ref()
                .map(|external| external.root.clone()),
            cgroups: lives.then_some(own).into_iter().collect(),
        }
    }
}

/// Removes a pod's record and files; fails when the record stays. Files that stay are found by the
/// next daemon.
pub fn discard(layout: &Layout, id: &Id) -> Result<(), PodError> {
    record::remove(&layout.pod(id))?;
    let _ = std::fs::remove_dir_all(layout.pod_files(id));
    Ok(())
}

/// Kills the containers, detaches the network, ends the shim, and removes what those leave. In
/// that order: nothing runs without its network, and plugins find the namespace still there. When
/// the network cannot be detached the shim is left to hold the namespace for another attempt.
pub async fn give_back(daemon: &Daemon, mut remains: Remains) -> Result<(), PodError> {
    for container in &remains.running {
        let Some(client) = &remains.client else { break };
        // What cannot be killed by its shim is killed by its cgroup below.
        let killed = client.kill(container.as_str(), SIGKILL, true).await;
        if matches!(killed, Err(ShimError::Silent { .. })) {
            remains.client = None;
        }
    }
    if let Some(netns) = &remains.netns {
        let began = Instant::now();
        let torn_down = daemon.cni.teardown(remains.id.as_str(), Some(netns)).await;
        let metrics = &daemon.telemetry.metrics;
        metrics
            .network(NetworkOperation::Del)
            .done(began, &torn_down);
        torn_down.map_err(|source| PodError::Network {
            action: "tear down",
            id: remains.id.clone(),
            source: Box::new(source),
        })?;
    }
    let ended = end_shim(daemon, &remains).await;
    ended.map_err(|source| PodError::Shim {
        action: "end the shim of",
        id: remains.id.clone(),
        source,
    })?;
    bury(&remains.id, &remains.cgroups).await?;
    if let Some(path) = remains.runtime_state {
        // A shim that has ended in peace has removed it.
        let _ = std::fs::remove_dir_all(path);
    }
    if let Some(path) = remains.netns {
        netns::remove(&path).map_err(|source| PodError::File {
            action: "unbind network namespace",
            path,
            source,
        })?;
    }
    Ok(())
}

const SIGKILL: i32 = 9;

/// Ends a shim, by force when it does not listen, and removes its run directory.
async fn end_shim(daemon: &Daemon, remains: &Remains) -> Result<(), ShimError> {
    let Remains {
        client,
        shim,
        process,
        ..
    } = remains;
    let process = process.map_or(Ok(None), Process::find);
    let process = process.map_err(|source| ShimError::Find {
        shim: shim.clone(),
        source,
    })?;
    if let Some(client) = client {
        // A shim that has gone meanwhile is what was wanted.
        let _ = client.shutdown().await;
    }
    if let Some(mut process) = process {
        let grace = if client.is_some() {
            GOODBYE
        } else {
            Duration::ZERO
        };
        if tokio::time::timeout(grace, process.ended()).await.is_err() {
            process.kill();
            // In an uninterruptible sleep it dies when it wakes; until then the pod holds it.
            let ended = tokio::time::timeout(cgroup::PATIENCE, process.ended()).await;
            ended.map_err(|_| ShimError::Undead {
                shim: shim.clone(),
                seconds: cgroup::PATIENCE.as_secs(),
            })?;
        }
    }
    let _ = std::fs::remove_dir_all(daemon.layout.shim(shim));
    Ok(())
}

/// Kills what is left in cgroups and removes them.
pub async fn bury(pod: &Id, cgroups: &[PathBuf]) -> Result<(), PodError> {
    for path in cgroups {
        match cgroup::kill(path).await {
            Ok(true) => {}
            Ok(false) => {
                return Err(PodError::Undead {
                    id: pod.clone(),
                    cgroup: path.clone(),
                });
            }
            Err(source) => {
                let path = path.clone();
                return Err(PodError::File {
                    action: "empty cgroup",
                    path,
                    source,
                });
            }
        }
    }
    Ok(())
}
