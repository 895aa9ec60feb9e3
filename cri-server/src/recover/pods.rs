//! Brings one pod back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use skiff_cri::v1::PodSandboxConfig;
use skiff_shim_proto::message::{ContainerState, PodState};
use tokio::sync::mpsc;

use super::containers::Shim;
use super::{Recorded, containers};
use crate::cgroup;
use crate::daemon::Daemon;
use crate::pod::link::{Link, search};
use crate::pod::record::PodRecord;
use crate::pod::state::{Event, State};
use crate::pod::stop::{Remains, discard, give_back};
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
}

impl Place {
    /// Takes the place that a pod's name gives it; `None` when another pod has it. Not seen by
    /// clients until the pod is published.
    pub(super) fn take(
        daemon: &Daemon,
        config: PodSandboxConfig,
        record: &PodRecord,
    ) -> Option<Self> {
        let facts = Arc::new(Facts {
            id: record.id.clone(),
            config,
            runtime_handler: record.runtime_handler.clone(),
            created_at: record.created_at,
        });
        let (handle, inbox) = PodHandle::new(facts);
        match daemon.store.reserve(handle.name(), &handle) {
            Ok(()) => Some(Self { handle, inbox }),
            Err(holder) => {
                let holder = holder.id();
                tracing::error!(pod = %record.id, %holder, "two pods have one name; this one goes");
                None
            }
        }
    }

    fn leave(self, daemon: &Daemon) {
        daemon.store.forget(self.handle.name(), self.handle.id());
    }
}

/// Brings a pod back with its containers; undoes one that had not been started, or has no place.
pub(super) async fn bring_back(
    daemon: &Arc<Daemon>,
    place: Option<Place>,
    mut record: PodRecord,
    containers: Vec<Recorded>,
) {
    let rebooted = record.boot_id != daemon.boot_id;
    let look = if rebooted {
        Look::Gone
    } else {
        search(&record, &daemon.layout).look(PATIENCE).await
    };
    let place = match place {
        Some(place) if record.state != State::Starting => place,
        place => {
            undo(daemon, &record, look, containers).await;
            if let Some(place) = place {
                place.leave(daemon);
            }
            return;
        }
    };
    settle(daemon, &mut record, &look);
    if matches!(look, Look::Gone) && !rebooted {
        bury(daemon, &record).await;
    }
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
    let Place { handle, inbox } = place;
    let mut task = PodTask::new(Arc::clone(daemon), handle, inbox, record, link);
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
}

/// Brings the state of a pod up to date with what has become of its daemon and its shim.
fn settle(daemon: &Daemon, record: &mut PodRecord, look: &Look) {
    let before = record.state;
    let lost = matches!(look, Look::Gone).then_some(Event::Lost);
    // The stop that was under way has ended with the daemon that carried it out.
    let stopped = (before == State::Stopping).then_some(Event::Stopped);
    for event in lost.into_iter().chain(stopped) {
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

/// Gives back everything a pod and its containers hold, and their records when that succeeds.
async fn undo(daemon: &Daemon, record: &PodRecord, look: Look, containers: Vec<Recorded>) {
    let client = match look {
        Look::Found(found) => Some(found.shim.client),
        Look::Silent(..) | Look::Gone => None,
    };
    let mut remains = Remains::of(record, client, daemon);
    if record.boot_id != daemon.boot_id {
        remains.forget_processes();
    }
    let given_back = give_back(daemon, remains).await;
    for (_, container) in containers {
        containers::remove(daemon, &container).await;
    }
    match given_back.and_then(|()| discard(&daemon.layout, &record.id)) {
        Ok(()) => cgroup::remove_own(&daemon.cgroup_root, &record.cgroup_parent, &record.id),
        Err(error) => tracing::error!(
            pod = %record.id,
            error = chain(&error),
            "a pod of no use cannot be undone; the next start tries again"
        ),
    }
}

/// Kills what a dead shim has left of the pod itself: the init of a shared PID namespace.
async fn bury(daemon: &Daemon, record: &PodRecord) {
    let cgroups = Remains::of(record, None, daemon).cgroups;
    if let Err(error) = crate::pod::stop::bury(&record.id, &cgroups).await {
        tracing::error!(pod = %record.id, error = chain(&error), "left-over processes stay");
    }
}
