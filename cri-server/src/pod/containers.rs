//! How a pod's task starts and stops a container, and what it makes of its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skiff_shim_proto::message::FailureKind;
use skiff_shim_proto::record::ExitRecord;

use super::task::{Answer, Done, PodTask, Slot};
use crate::clock;
use crate::container::state::{Denied, Event, step};
use crate::container::stop::{Action, Stop};
use crate::container::{ContainerError, ContainerView, Exit, State};
use crate::id::Id;
use crate::record::RecordError;
use crate::shim::ShimError;
use crate::telemetry::{Phase, Timeline};

const SIGKILL: i32 = 9;
/// Pause before a record that could not be written is written again.
const SAVE_PAUSE: Duration = Duration::from_secs(1);

impl PodTask {
    pub(super) fn start_container(
        &mut self,
        id: &Id,
        timeline: Timeline,
        answer: Answer<(), ContainerError>,
    ) {
        let client = self.client();
        // Dropping the answer says that there is no such container.
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        let started = match step(&slot.view.state, Event::Start) {
            Ok(_) if slot.removing => Err(Denied::NotRunning),
            result => result,
        };
        match (started, client) {
            (Ok(state), Ok(client)) => {
                slot.set(state);
                slot.start_waiters.push(answer);
                let id = id.clone();
                self.begin(async move {
                    let asked = Instant::now();
                    let result = client.start(id.as_str()).await;
                    if let Ok((_, Some(took))) = result {
                        timeline.took(Phase::Exec, asked, took);
                    }
                    Done::Started(id, result.map(|(started_at, _)| started_at))
                });
            }
            (Ok(_), Err(source)) => {
                let error = ContainerError::Shim {
                    action: "start",
                    id: id.clone(),
                    source,
                };
                let _ = answer.send(Err(Arc::new(error)));
            }
            (Err(denied), _) => {
                let error = ContainerError::Denied {
                    action: "start",
                    id: id.clone(),
                    denied,
                };
                let _ = answer.send(Err(Arc::new(error)));
            }
        }
    }

    pub(super) fn container_started(&mut self, id: &Id, result: Result<i64, ShimError>) {
        let event = match &result {
            Ok(started_at) => Event::Started(*started_at),
            Err(ShimError::Refused(failure)) => match failure.kind {
                FailureKind::Command { exit_code } => {
                    let message = failure.message.clone();
                    Event::Ended(Exit::start_error(exit_code, message, clock::now()))
                }
                _ => Event::Unstarted,
            },
            Err(_) => Event::Unstarted,
        };
        self.apply(id, event);
        self.save_container(id);
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        let result = result.map(drop).map_err(|source| {
            Arc::new(ContainerError::Shim {
                action: "start",
                id: id.clone(),
                source,
            })
        });
        for waiter in slot.start_waiters.drain(..) {
            let _ = waiter.send(result.clone());
        }
    }

    /// The start that an earlier daemon asked for has come through.
    pub(super) fn container_found_running(&mut self, id: &str, started_at: i64) {
        if let Some(id) = Id::parse(id) {
            self.apply(&id, Event::Start);
            self.apply(&id, Event::Started(started_at));
            self.save_container(&id);
        }
    }

    pub(super) fn container_exited(&mut self, record: ExitRecord) {
        let Some(id) = Id::parse(&record.id) else {
            return;
        };
        // News of an end may overtake the end of the container's own creation.
        match self.creations.iter_mut().find(|made| made.id == id) {
            Some(creation) => creation.exit = Some(record),
            None => {
                self.apply(&id, Event::Ended(record.into()));
                self.keep_exit(&id);
            }
        }
    }

    pub(super) fn stop_container(
        &mut self,
        id: &Id,
        grace: Duration,
        answer: Answer<(), ContainerError>,
    ) {
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        if slot.view.state.exit().is_some() {
            let _ = answer.send(Ok(()));
            return;
        }
        slot.stop_waiters.push(answer);
        // What nobody has let run cannot end in an orderly way.
        let orderly = !matches!(slot.view.state, State::Created { .. });
        let grace = if orderly { grace } else { Duration::ZERO };
        let (stop, action) = slot.stop.request(Instant::now(), grace);
        slot.stop = stop;
        self.act(id, action);
    }

    pub(super) fn tick(&mut self, now: Instant) {
        let ids: Vec<Id> = self.containers.keys().cloned().collect();
        for id in ids {
            let Some(slot) = self.containers.get_mut(&id) else {
                continue;
            };
            let (stop, action) = slot.stop.tick(now);
            slot.stop = stop;
            self.act(&id, action);
        }
        if self.save_at.is_some_and(|at| at <= now) {
            self.save_exits(now);
        }
    }

    fn act(&mut self, id: &Id, action: Option<Action>) {
        let client = self.client();
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        let (signal, all) = match action {
            None => return,
            Some(Action::Ask) => (slot.view.facts.stop_signal, false),
            Some(Action::Kill) => (SIGKILL, true),
            Some(Action::GiveUp) => {
                let seconds = crate::container::stop::PATIENCE.as_secs();
                slot.stop_failed(ContainerError::Undead {
                    id: id.clone(),
                    seconds,
                });
                return;
            }
        };
        let client = match client {
            Ok(client) => client,
            // Its end is being dealt with, and with it the container's.
            Err(ShimError::Gone { .. }) => return,
            Err(source) => {
                let (action, id) = ("stop", id.clone());
                slot.stop_failed(ContainerError::Shim { action, id, source });
                return;
            }
        };
        let id = id.clone();
        self.begin(async move {
            let result = client.kill(id.as_str(), signal, all).await;
            Done::Signalled(id, result)
        });
    }

    pub(super) fn container_signalled(&mut self, id: &Id, result: Result<(), ShimError>) {
        let Err(source) = result else { return };
        let ended = matches!(
            source.refusal(),
            Some(FailureKind::NotFound | FailureKind::InvalidState)
        );
        // One that has ended, and a shim that has, are heard of soon.
        if ended || source.is_gone() {
            return;
        }
        if let Some(slot) = self.containers.get_mut(id) {
            slot.stop_failed(ContainerError::Shim {
                action: "stop",
                id: id.clone(),
                source,
            });
        }
    }

    /// Enters the end of a container that nobody tells of: from its exit record, or as nobody
    /// knows it.
    pub(super) fn settle_exit(&mut self, id: &Id, unknown: fn(Option<i64>, i64) -> Exit) {
        let path = self.daemon.layout.container_exit(id);
        let recorded = crate::container::record::read_exit(&path);
        let started_at = self
            .containers
            .get(id)
            .map(|slot| slot.view.state.started_at());
        let started_at = started_at.filter(|at| *at > 0);
        let exit = recorded.unwrap_or_else(|| unknown(started_at, clock::now()));
        self.apply(id, Event::Ended(exit));
        self.keep_exit(id);
    }

    /// Sees to it that the end of a container is on disk: in the shim's record, or else, when the
    /// shim could not write it or was not there to, in the container's own.
    pub(super) fn keep_exit(&mut self, id: &Id) {
        let is_recorded = self.daemon.layout.container_exit(id).exists();
        if !is_recorded && !self.save_container(id) {
            self.save_at = Some(Instant::now() + SAVE_PAUSE);
            if let Some(slot) = self.containers.get_mut(id) {
                slot.unsaved = true;
            }
        }
    }

    /// Tries again to write what could not be written.
    fn save_exits(&mut self, now: Instant) {
        let unsaved = self.containers.iter().filter(|(_, slot)| slot.unsaved);
        let unsaved: Vec<Id> = unsaved.map(|(id, _)| id.clone()).collect();
        self.save_at = None;
        for id in unsaved {
            let recorded = self.daemon.layout.container_exit(&id).exists();
            let saved = recorded || self.write_container(&id).is_ok();
            if !saved {
                self.save_at = Some(now + SAVE_PAUSE);
            } else if let Some(slot) = self.containers.get_mut(&id) {
                slot.unsaved = false;
            }
        }
    }

    /// Applies an event to a container and publishes it; answers those who wait for its end.
    pub(super) fn apply(&mut self, id: &Id, event: Event) {
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        let had_ended = slot.view.state.exit().is_some();
        match step(&slot.view.state, event) {
            Ok(state) => slot.set(state),
            Err(denied) => {
                tracing::warn!(container = %id, %denied, "event passed over");
                return;
            }
        }
        let ended = slot.view.state.exit().is_some();
        if let Some(exit) = slot.view.state.exit().filter(|_| !had_ended) {
            let (code, reason) = (exit.code, &exit.reason);
            tracing::info!(container = %id, pod = %self.record.id, code, reason, "ended");
        }
        let waiters = if ended {
            std::mem::take(&mut slot.stop_waiters)
        } else {
            Vec::new()
        };
        if ended {
            slot.stop = Stop::Idle;
        }
        self.publish();
        for waiter in waiters {
            let _ = waiter.send(Ok(()));
        }
    }

    /// Writes a container's record; whether that worked.
    pub(super) fn save_container(&self, id: &Id) -> bool {
        let written = self.write_container(id);
        if let Err(error) = &written {
            let error = crate::telemetry::chain(error);
            tracing::error!(container = %id, error, "the container's record cannot be written");
        }
        written.is_ok()
    }

    fn write_container(&self, id: &Id) -> Result<(), RecordError> {
        let Some(slot) = self.containers.get(id) else {
            return Ok(());
        };
        let facts = &slot.view.facts;
        let record = facts.record(&self.daemon.boot_id, &slot.view.state);
        record.write(&self.daemon.layout)
    }
}

impl Slot {
    fn set(&mut self, state: State) {
        let facts = Arc::clone(&self.view.facts);
        self.view = Arc::new(ContainerView::new(facts, state));
    }

    pub(super) fn stop_failed(&mut self, error: ContainerError) {
        self.stop = Stop::Idle;
        let error = Arc::new(error);
        for waiter in self.stop_waiters.drain(..) {
            let _ = waiter.send(Err(Arc::clone(&error)));
        }
    }
}
