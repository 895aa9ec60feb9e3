//! Brings one container back.

use std::sync::Arc;

use skiff_shim_proto::message::ContainerState as Told;

use super::Recorded;
use crate::cgroup;
use crate::clock;
use crate::container::record::{ContainerRecord, read_exit};
use crate::container::remains::give_back;
use crate::container::{ContainerView, Exit, Facts, State};
use crate::daemon::Daemon;
use crate::shim::Client;
use crate::shim::process::ProcessId;
use crate::telemetry::chain;

/// A container as it is now, by what its shim tells, its exit record, and its own record. `None`
/// for one that was not complete and has been removed.
pub(super) async fn bring_back(
    daemon: &Daemon,
    (birth, record): Recorded,
    told: Option<&Told>,
    client: Option<&Client>,
    rebooted: bool,
) -> Option<ContainerView> {
    let exit = || read_exit(&daemon.layout.container_exit(&record.id));
    let state = match (told, &record.state) {
        (Some(told), _) => as_told(told),
        // The shim never heard of it, so no client did either.
        (None, State::Creating) => None,
        (None, State::Exited { exit }) => Some(State::Exited { exit: exit.clone() }),
        (None, known) => Some(State::Exited {
            exit: exit().unwrap_or_else(|| unknown(known, rebooted)),
        }),
    };
    let Some(state) = state else {
        if let Some(client) = client {
            let _ = client.delete(record.id.as_str()).await;
        }
        remove(daemon, &record).await;
        return None;
    };
    let facts = Facts::new(&record, birth.request.0, birth.spec);
    if state != record.state {
        let record = ContainerRecord {
            state: state.clone(),
            ..record
        };
        if let Err(error) = record.write(&daemon.layout) {
            tracing::error!(container = %record.id, error = chain(&error), "record not written");
        }
    }
    Some(ContainerView {
        facts: Arc::new(facts),
        state,
    })
}

fn as_told(told: &Told) -> Option<State> {
    let process = ProcessId {
        pid: told.pid,
        start_time: told.start_time,
    };
    Some(match &told.exit {
        Some(exit) => State::Exited {
            exit: exit.clone().into(),
        },
        None if told.started_at > 0 => State::Running {
            process,
            started_at: told.started_at,
        },
        None => State::Created { process },
    })
}

fn unknown(known: &State, rebooted: bool) -> Exit {
    let started_at = match known {
        State::Running { started_at, .. } => Some(*started_at),
        _ => None,
    };
    let make = if rebooted {
        Exit::rebooted
    } else {
        Exit::shim_lost
    };
    make(started_at, clock::now())
}

/// Removes all that a container holds, whoever made it.
pub(super) async fn remove(daemon: &Daemon, record: &ContainerRecord) {
    let emptied = if record.boot_id == daemon.boot_id {
        cgroup::kill(&record.cgroup).await.unwrap_or(false)
    } else {
        true
    };
    if !emptied {
        tracing::error!(container = %record.id, "processes of an unfinished container stay");
        return;
    }
    if let Err(error) = give_back(daemon, &record.id) {
        tracing::error!(container = %record.id, error = chain(&error), "it cannot be removed");
    }
}
