//! Brings one pod back.

use std::collections::HashMap;
use std::sync::Arc;

use skiff_cri::v1::PodSandboxConfig;
use skiff_shim_proto::message::{ContainerState, PodState};

use super::{Recorded, containers};
use crate::container::ContainerView;
use crate::daemon::Daemon;
use crate::pod::record::PodRecord;
use crate::pod::state::State;
use crate::pod::stop::{Remains, give_back};
use crate::pod::task::PodTask;
use crate::pod::{Facts, PodHandle};
use crate::shim::connect::connect_to;
use crate::shim::{Client, Shim, ShimError};
use crate::telemetry::chain;

/// Brings a pod back with its containers; undoes one that had not been started.
pub(super) async fn bring_back(
    daemon: &Arc<Daemon>,
    config: PodSandboxConfig,
    mut record: PodRecord,
    containers: Vec<Recorded>,
) {
    let found = if record.boot_id == daemon.boot_id {
        find(daemon, &record).await
    } else {
        None
    };
    if record.state == State::Starting {
        undo(daemon, &record, found.map(|found| found.shim)).await;
        for (_, container) in containers {
            containers::remove(daemon, &container).await;
        }
        return;
    }
    let (shim, states) = match found {
        Some(Found { shim, state }) => (Some(shim), by_id(state)),
        None => (None, HashMap::new()),
    };
    if shim.is_none() || record.state == State::Stopping {
        record.state = State::NotReady;
        save(daemon, &record);
    }
    if shim.is_none() {
        bury(daemon, &record, &containers).await;
    }
    let facts = Arc::new(Facts {
        id: record.id.clone(),
        config,
        runtime_handler: record.runtime_handler.clone(),
        created_at: record.created_at,
    });
    let (handle, inbox) = PodHandle::new(facts);
    if daemon.store.reserve(handle.name(), &handle).is_err() {
        tracing::error!(pod = %record.id, "two pods have one name; this one is left alone");
        return;
    }
    let shim_client = shim.as_ref().map(|shim| shim.client.clone());
    forget_strangers(&containers, &states, shim_client.as_ref()).await;
    let rebooted = record.boot_id != daemon.boot_id;
    let mut task = PodTask::new(Arc::clone(daemon), handle, inbox, record, shim);
    for container in containers {
        let told = states.get(container.1.id.as_str());
        let client = shim_client.as_ref();
        let view = containers::bring_back(daemon, container, told, client, rebooted).await;
        if let Some(ContainerView { facts, state }) = view {
            task.adopt_container(ContainerView { facts, state });
        }
    }
    tokio::spawn(task.resume());
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

struct Found {
    shim: Shim,
    state: PodState,
}

/// The pod's shim, if it lives and is this pod's.
async fn find(daemon: &Daemon, record: &PodRecord) -> Option<Found> {
    let run_dir = daemon.layout.shim(&record.shim.id);
    let found = match connect_to(&record.shim.id, &run_dir, record.shim.process) {
        Ok(shim) => shim.client.state().await.map(|state| Found { shim, state }),
        Err(error) => Err(error),
    };
    match found {
        Ok(found) if found.state.pod_id.as_deref() == Some(record.id.as_str()) => Some(found),
        // One that had not been adopted ends by itself.
        Ok(_) | Err(ShimError::Gone { .. }) => None,
        Err(error) => {
            tracing::error!(pod = %record.id, error = chain(&error), "the pod's shim is given up");
            None
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

/// Gives back everything a pod holds, and its record when that succeeds.
async fn undo(daemon: &Daemon, record: &PodRecord, shim: Option<Shim>) {
    let mut remains = Remains::of(record, shim.map(|shim| shim.client), daemon);
    if record.boot_id != daemon.boot_id {
        remains.forget_processes();
    }
    match give_back(daemon, remains).await {
        Ok(()) => {
            crate::cgroup::remove_own(&daemon.cgroup_root, &record.cgroup_parent, &record.id);
            crate::pod::stop::discard(&daemon.layout, &record.id);
        }
        Err(error) => tracing::error!(
            pod = %record.id,
            error = chain(&error),
            "a pod that was being started cannot be undone; the next start tries again"
        ),
    }
}

/// Kills what a dead shim has left.
async fn bury(daemon: &Daemon, record: &PodRecord, containers: &[Recorded]) {
    if record.boot_id != daemon.boot_id {
        return;
    }
    let mut cgroups = Remains::of(record, None, daemon).cgroups;
    cgroups.extend(containers.iter().map(|(_, record)| record.cgroup.clone()));
    if let Err(error) = crate::pod::stop::bury(&record.id, &cgroups).await {
        tracing::error!(pod = %record.id, error = chain(&error), "left-over processes stay");
    }
}

fn save(daemon: &Daemon, record: &PodRecord) {
    if let Err(error) = record.write(&daemon.layout) {
        tracing::error!(pod = %record.id, error = chain(&error), "the record cannot be written");
    }
}
