//! Brings one pod back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use skiff_cri::v1::PodSandboxConfig;
use skiff_shim_proto::message::{ContainerState, PodState};
use tokio::sync::mpsc;

use super::containers::Shim;
use super::{Recorded, containers};
use crate::daemon::Daemon;
use crate::pod::link::{Link, search};
use crate::pod::record::PodRecord;
use crate::pod::state::{Event, State};
use crate::pod::task::PodTask;
use crate::pod::{Command, Facts, PodHandle};
use crate::shim::Client;
use crate::shim::connect::{Found, Look};
use crate::telemetry::chain;

/// How long a shim may take to answer before its pod is taken back without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// A pod's place among all pods.
pub(super) struct Place {
    handle: Arc<PodHandle>,
    inbox: mpsc::UnboundedReceiver<Command>,
    of_use: bool,
}

impl Place {
    /// Takes the place of a pod, with its name unless it is of no use: a client may ask for
    /// another of that name. Not seen by clients until the pod is published.
    pub(super) fn take(daemon: &Daemon, config: PodSandboxConfig, record: &PodRecord) -> Self {
        let facts = Arc::new(Facts {
            id: record.id.clone(),
            config,
            runtime_handler: record.runtime_handler.clone(),
            created_at: record.created_at,
            labels: record
                .labels
                .clone()
                .map(|labels| daemon.pairs.again(labels, &record.id)),
        });
        let (handle, inbox) = PodHandle::new(facts);
        let of_use = match record.state {
            State::Starting => false,
            _ => match daemon.store.reserve(handle.name(), &handle) {
                Ok(()) => true,
                Err(holder) => {
                    let (pod, holder) = (&record.id, holder.id());
                    tracing::error!(%pod, %holder, "two pods have one name; this one goes");
                    false
                }
            },
        };
        if !of_use {
            daemon.store.enter_nameless(&handle);
        }
        Self {
            handle,
            inbox,
            of_use,
        }
    }
}

/// Brings a pod back with its containers. One that had not been started, or has no name of its
/// own, is removed in its own time: a plugin that hangs must not keep the others waiting.
pub(super) async fn bring_back(
    daemon: &Arc<Daemon>,
    place: Place,
    mut record: PodRecord,
    containers: Vec<Recorded>,
) {
    let rebooted = record.boot_id != daemon.boot_id;
    let look = if rebooted {
        Look::Gone
    } else {
        search(&record, &daemon.layout).look(PATIENCE).await
    };
    settle(daemon, &mut record, &look);
    let (link, told, lost, broken) = match look {
        Look::Found(found) => {
            let Found { shim, state } = found;
            let broken = state.broken.clone();
            (shim.into(), by_id(state), None, broken)
        }
        Look::Silent(search, error) => {
            let error = chain(&error);
            tracing::warn!(pod = %record.id, error, "the pod's shim does not answer; it is sought");
            (Link::Sought, HashMap::new(), Some(search), None)
        }
        Look::Gone => (Link::Gone, HashMap::new(), None, None),
    };
    let Place {
        handle,
        inbox,
        of_use,
    } = place;
    let mut task = PodTask::new(Arc::clone(daemon), handle.clone(), inbox, record, link);
    let client = task.client().ok();
    forget_strangers(&containers, &told, client.as_ref()).await;
    for container in containers {
        let shim = match &client {
            Some(client) => Shim::Answers(client, told.get(container.1.id.as_str())),
            None if lost.is_some() => Shim::Silent,
            None if rebooted => Shim::Rebooted,
            None => Shim::Ended,
        };
        if let Some(view) = containers::bring_back(daemon, container, shim).await {
            task.adopt_container(view);
        }
    }
    if let Some(search) = lost {
        task.seek_shim(search);
    }
    if let Some(reason) = broken {
        task.broken(reason);
    }
    tokio::spawn(task.resume());
    if !of_use {
        tokio::spawn(remove(handle));
    }
}

/// Removes a pod that nobody has asked for. When that fails it stays, not ready, for clients to
/// remove.
async fn remove(pod: Arc<PodHandle>) {
    if let Some(Err(error)) = pod.ask(Command::Remove).await {
        let error = chain(&*error);
        tracing::error!(pod = %pod.id(), error, "a pod of no use cannot be removed");
    }
}

/// Brings the state of a pod up to date with what has become of its daemon and its shim.
fn settle(daemon: &Daemon, record: &mut PodRecord, look: &Look) {
    let before = record.state;
    let failed = (before == State::Starting).then_some(Event::Failed);
    let lost = matches!(look, Look::Gone).then_some(Event::Lost);
    // The stop that was under way has ended with the daemon that carried it out.
    let stopped = (before == State::Stopping).then_some(Event::Stopped);
    for event in failed.into_iter().chain(lost).chain(stopped) {
        if let Err(denied) = record.step(event) {
            tracing::error!(pod = %record.id, ?event, %denied, "event passed over");
        }
    }
    if record.state != before
        && let Err(error) = record.write(&daemon.layout)
    {
        tracing::error!(pod = %record.id, error = chain(&error), "the record cannot be written");
    }
}

/// Has the shim forget containers whose records are gone.
async fn forget_strangers(
    known: &[Recorded],
    told: &HashMap<String, ContainerState>,
    client: Option<&Client>,
) {
    let Some(client) = client else { return };
    for id in told
        .keys()
        .filter(|id| known.iter().all(|(_, record)| record.id.as_str() != *id))
    {
        if let Err(error) = client.delete(id).await {
            tracing::error!(
                container = id,
                error = chain(&error),
                "the shim does not forget it"
            );
        }
    }
}

fn by_id(state: PodState) -> HashMap<String, ContainerState> {
    state
        .containers
        .into_iter()
        .map(|container| (container.id.clone(), container))
        .collect()
}
