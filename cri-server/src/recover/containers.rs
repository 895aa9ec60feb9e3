//! Brings one container back.

use std::sync::Arc;
use std::time::Duration;

use skiff_shim_proto::message::ContainerState as Told;

use super::Recorded;
use crate::cgroup;
use crate::clock;
use crate::container::record::{ContainerRecord, read_exit};
use crate::container::remains::give_back;
use crate::container::state::{Event, step};
use crate::container::{ContainerView, Exit, Facts, State};
use crate::daemon::Daemon;
use crate::shim::Client;
use crate::shim::process::ProcessId;
use crate::telemetry::chain;

/// How long what a dead shim left may take to die before clients are answered without knowing:
/// usually there is nothing left, and else its pod's task goes on killing it.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is known of the shim of a container.
#[derive(Clone, Copy)]
pub(super) enum Shim<'a> {
    /// It answers, and tells this of the container, or does not know it.
    Answers(&'a Client, Option<&'a Told>),
    /// It lives and does not answer.
    Silent,
    /// It has ended.
    Ended,
    /// It ran before the machine was started anew.
    Rebooted,
}

/// A container as it is now, by what its shim tells, its exit record, and its own record. `None`
/// for one that was not complete and has been removed.
pub(super) async fn bring_back(
    daemon: &Daemon,
    (birth, record): Recorded,
    shim: Shim<'_>,
) -> Option<ContainerView> {
    let news = news(daemon, &record, shim).await;
    let state = news.map_or(Ok(record.state.clone()), |news| step(&record.state, news));
    let state = match state {
        Ok(State::Creating) | Err(_) => {
            // The shim never heard of it, so no client did either.
            if let Shim::Answers(client, _) = shim {
                let _ = client.delete(record.id.as_str()).await;
            }
            remove(daemon, &record).await;
            return None;
        }
        Ok(state) => state,
    };
    let pair = daemon.pairs.of_container(&birth.spec, &record.pod);
    let facts = Arc::new(Facts::new(&record, birth.request.0, birth.spec, pair));
    if state != record.state && !matches!(state, State::Unknown { .. }) {
        let record = ContainerRecord {
            state: state.clone(),
            ..record
        };
        if let Err(error) = record.write(&daemon.layout) {
            tracing::error!(container = %record.id, error = chain(&error), "record not written");
        }
    }
    Some(ContainerView::new(facts, state))
}

/// What has happened to a container since its record was written; `None` when nothing has, or the
/// container was never complete.
async fn news(daemon: &Daemon, record: &ContainerRecord, shim: Shim<'_>) -> Option<Event> {
    let exit = || read_exit(&daemon.layout.container_exit(&record.id)).map(Event::Ended);
    let known = &record.state;
    let started_at = Some(known.started_at()).filter(|at| *at > 0);
    let unknown = |make: fn(Option<i64>, i64) -> Exit| Event::Ended(make(started_at, clock::now()));
    match shim {
        Shim::Answers(_, Some(told)) => Some(as_told(told)),
        _ if matches!(known, State::Creating) => None,
        Shim::Answers(_, None) => Some(exit().unwrap_or_else(|| unknown(Exit::shim_lost))),
        Shim::Rebooted => Some(exit().unwrap_or_else(|| unknown(Exit::rebooted))),
        Shim::Silent => exit().or_else(|| {
            let lost = !known.process().is_some_and(ProcessId::is_alive);
            lost.then(|| Event::Lost("its first process has gone, and its shim is silent".into()))
        }),
        Shim::Ended => match cgroup::kill_within(&record.cgroup, PATIENCE).await {
            Ok(true) => Some(exit().unwrap_or_else(|| unknown(Exit::shim_lost))),
            // Its pod's task goes on, and tells why.
            Ok(false) | Err(_) => exit().or_else(|| Some(Event::Lost("its shim has died".into()))),
        },
    }
}

fn as_told(told: &Told) -> Event {
    match &told.exit {
        Some(exit) => Event::Ended(exit.clone().into()),
        None => Event::Found {
            process: ProcessId {
                pid: told.pid,
                start_time: told.start_time,
            },
            started_at: told.started_at,
        },
    }
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
