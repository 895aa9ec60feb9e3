//! What is left of containers whose shim has died: it is killed, and only when nothing is left is
//! a container told to have ended.
//!
//! A process in an uninterruptible sleep dies when it wakes. Until then nobody can tell how its
//! container is, clients are told so, and killing is tried again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::PodError;
use super::state::{Event, State};
use super::stop::{Remains, bury};
use super::task::{Done, PodTask};
use crate::container::state::Event as ContainerEvent;
use crate::container::{ContainerError, Exit};
use crate::id::Id;

/// Pause before what did not end is killed again.
const PAUSE: Duration = Duration::from_secs(2);

impl PodTask {
    /// The shim has ended without being asked.
    pub(super) fn shim_lost(&mut self) {
        if self.record.state == State::Stopping {
            // The stop that is under way deals with what is left.
            return;
        }
        if self.step(Event::Lost) {
            self.save();
        }
        tracing::error!(pod = %self.record.id, "the pod's shim has died");
        self.reason
            .get_or_insert_with(|| "its shim has died".into());
        self.publish();
        self.bury_all();
    }

    /// Kills what is left of the pod itself, the init of a shared PID namespace, and of its
    /// containers.
    pub(super) fn bury_all(&mut self) {
        let own = Remains::of(&self.record, None, &self.daemon).cgroups;
        let id = self.record.id.clone();
        self.begin(async move { Done::Buried(None, bury(&id, &own).await) });
        self.bury_containers();
    }

    /// Kills what is left of every container that has not ended.
    pub(super) fn bury_containers(&mut self) {
        let alive: Vec<(Id, PathBuf)> = self
            .containers
            .iter_mut()
            .filter(|(_, slot)| slot.view.state.exit().is_none() && !slot.burying)
            .map(|(id, slot)| {
                slot.burying = true;
                (id.clone(), slot.view.facts.cgroup.clone())
            })
            .collect();
        for (id, cgroup) in alive {
            self.bury_container(id, cgroup, Duration::ZERO);
        }
    }

    fn bury_container(&self, id: Id, cgroup: PathBuf, pause: Duration) {
        let pod = self.record.id.clone();
        self.begin(async move {
            tokio::time::sleep(pause).await;
            let result = bury(&pod, &[cgroup]).await;
            Done::Buried(Some(id), result)
        });
    }

    /// What is left of a container, or of the pod itself, has been killed or not.
    pub(super) fn buried(&mut self, id: Option<Id>, result: Result<(), PodError>) {
        let (id, error) = match (id, result) {
            (None, Ok(())) => return,
            (None, Err(error)) => {
                let error = crate::telemetry::chain(&error);
                tracing::error!(pod = %self.record.id, error, "the init of a dead shim stays");
                return;
            }
            (Some(id), Ok(())) => {
                if let Some(slot) = self.containers.get_mut(&id) {
                    slot.burying = false;
                    self.settle_exit(&id, Exit::shim_lost);
                }
                return;
            }
            (Some(id), Err(error)) => (id, Arc::new(error)),
        };
        let Some(slot) = self.containers.get(&id) else {
            return;
        };
        if slot.view.state.exit().is_some() {
            return;
        }
        let why = crate::telemetry::chain(&*error);
        let cgroup = slot.view.facts.cgroup.clone();
        if slot.view.state.process().is_some() {
            tracing::error!(container = %id, error = why, "what a dead shim left stays");
            self.apply(&id, ContainerEvent::Lost(why));
        }
        if let Some(slot) = self.containers.get_mut(&id) {
            let id = id.clone();
            slot.stop_failed(ContainerError::Unburied { id, source: error });
        }
        self.bury_container(id, cgroup, PAUSE);
    }
}
