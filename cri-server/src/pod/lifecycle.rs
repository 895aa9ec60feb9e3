//! How a pod's task carries out what concerns the pod as a whole.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::PodError;
use super::link::Link;
use super::state::{Event, State};
use super::stop::{Remains, discard, give_back};
use super::task::{Answer, Done, PodTask};
use crate::cgroup;
use crate::container::{ContainerError, Exit};
use crate::id::Id;

impl PodTask {
    pub(super) fn stop(&mut self, answer: Answer<(), PodError>) {
        if !self.needs_stop() {
            let _ = answer.send(Ok(()));
            return;
        }
        self.stop_waiters.push(answer);
        self.begin_stop();
    }

    pub(super) fn remove(&mut self, answer: Answer<(), PodError>) {
        self.removal.get_or_insert_default().push(answer);
        self.advance_removal();
    }

    fn needs_stop(&self) -> bool {
        self.record.state != State::NotReady || self.record.holding
    }

    fn begin_stop(&mut self) {
        if self.record.state == State::Stopping || !self.step(Event::Stop) {
            return;
        }
        // A daemon that finds the pod half stopped must not take it for a ready one.
        self.save();
        self.publish();
        let alive = self
            .containers
            .iter()
            .filter(|(_, slot)| slot.view.state.exit().is_none());
        let mut remains = Remains::of(&self.record, self.client().ok(), &self.daemon);
        remains.running = alive.map(|(id, _)| id.clone()).collect();
        remains.cgroups.extend(self.container_cgroups());
        let daemon = Arc::clone(&self.daemon);
        self.begin(async move { Done::Stopped(give_back(&daemon, remains).await) });
    }

    pub(super) fn stopped(&mut self, result: Result<(), PodError>) {
        if result.is_ok() {
            self.record.holding = false;
            self.part_with_shim();
            self.settle_exits();
        }
        self.step(Event::Stopped);
        if matches!(self.link, Link::Gone) {
            self.bury_containers();
        }
        self.save();
        self.publish();
        let result = result.map_err(Arc::new);
        for waiter in self.stop_waiters.drain(..) {
            let _ = waiter.send(result.clone());
        }
        match result {
            Ok(()) => self.advance_removal(),
            Err(error) => self.fail_removal(&error),
        }
    }

    /// Nobody is left to tell how the containers ended: what their records say, or that nobody
    /// knows.
    fn settle_exits(&mut self) {
        let alive = self
            .containers
            .iter()
            .filter(|(_, slot)| slot.view.state.exit().is_none());
        let alive: Vec<Id> = alive.map(|(id, _)| id.clone()).collect();
        for id in alive {
            self.settle_exit(&id, Exit::shim_lost);
        }
    }

    fn container_cgroups(&self) -> Vec<PathBuf> {
        self.containers
            .values()
            .map(|slot| slot.view.facts.cgroup.clone())
            .collect()
    }

    /// Brings a removal one step on, as far as it can go now.
    pub(super) fn advance_removal(&mut self) {
        if self.removal.is_none() || self.record.state == State::Stopping {
            return;
        }
        if self.needs_stop() {
            self.begin_stop();
            return;
        }
        let idle = self.containers.iter().filter(|(_, slot)| !slot.removing);
        let idle: Vec<Id> = idle.map(|(id, _)| id.clone()).collect();
        for id in idle {
            self.begin_container_removal(&id);
        }
        if self.containers.is_empty() && self.creations.is_empty() {
            self.vanish();
        }
    }

    /// Tells those who wait for the pod's removal that a container is in the way.
    pub(super) fn fail_removal_by(&mut self, source: ContainerError) {
        let id = self.record.id.clone();
        self.fail_removal(&Arc::new(PodError::Container {
            id,
            source: Box::new(source),
        }));
    }

    fn fail_removal(&mut self, error: &Arc<PodError>) {
        for waiter in self.removal.take().into_iter().flatten() {
            let _ = waiter.send(Err(Arc::clone(error)));
        }
    }

    fn vanish(&mut self) {
        let record = &self.record;
        cgroup::remove_own(&self.daemon.cgroup_root, &record.cgroup_parent, &record.id);
        // A pod whose record stays would be back after a restart.
        if let Err(error) = discard(&self.daemon.layout, &self.record.id) {
            self.fail_removal(&Arc::new(error));
            return;
        }
        self.daemon
            .store
            .forget(self.handle.name(), &self.record.id);
        let events = &self.daemon.events;
        events.removed(&self.handle.view(), &self.daemon.store);
        self.gone = true;
        for waiter in self.removal.take().into_iter().flatten() {
            let _ = waiter.send(Ok(()));
        }
    }

    /// Applies an event to the pod; false when the pod's state does not allow it.
    pub(super) fn step(&mut self, event: Event) -> bool {
        match self.record.step(event) {
            Ok(()) => true,
            Err(denied) => {
                tracing::warn!(pod = %self.record.id, ?event, %denied, "event passed over");
                false
            }
        }
    }

    pub(super) fn save(&self) {
        if let Err(error) = self.record.write(&self.daemon.layout) {
            let error = crate::telemetry::chain(&error);
            tracing::error!(pod = %self.record.id, error, "the pod's record cannot be written");
        }
    }
}
