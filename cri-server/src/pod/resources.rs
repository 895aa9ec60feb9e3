//! How a pod's task changes the limits of one of its containers.
//!
//! A change is planned from what the cgroup has, and not from what was last recorded: a change that
//! an earlier daemon asked for may have been made while nobody was there to record it.

use std::collections::VecDeque;
use std::sync::Arc;

use oci_spec::runtime::LinuxResources;
use skiff_cri::v1 as cri;
use skiff_shim_proto::message::Update;
use skiff_spec::update_resources;

use super::task::{Answer, Done, PodTask};
use crate::container::state::Denied;
use crate::container::{ContainerError, ContainerView, State};
use crate::id::Id;
use crate::shim::{Client, ShimError};

/// Changes of one container's limits, one at a time.
#[derive(Default)]
pub(super) struct Updates {
    under_way: bool,
    waiting: VecDeque<(cri::LinuxContainerResources, Answer<(), ContainerError>)>,
}

/// A change that the shim has answered.
pub(super) struct Updated {
    /// All limits, as they are with it.
    merged: cri::LinuxContainerResources,
    result: Result<(), ShimError>,
    answer: Answer<(), ContainerError>,
}

impl PodTask {
    /// Changes a container's limits, after the changes of it that were asked for before: what is
    /// written depends on what they came to.
    pub(super) fn update_container(
        &mut self,
        id: &Id,
        change: cri::LinuxContainerResources,
        answer: Answer<(), ContainerError>,
    ) {
        // Dropping the answer says that there is no such container.
        if let Some(slot) = self.containers.get_mut(id) {
            // A client that has gone takes its change with it, so that one that asks again and again
            // while a change takes long does not fill the list.
            let waiting = &mut slot.updates.waiting;
            waiting.retain(|(_, answer)| !answer.is_closed());
            waiting.push_back((change, answer));
            self.next_update(id);
        }
    }

    /// Begins the next change of a container's limits, if none is under way.
    fn next_update(&mut self, id: &Id) {
        while let Some(slot) = self.containers.get_mut(id)
            && !slot.updates.under_way
            && let Some((change, answer)) = slot.updates.waiting.pop_front()
        {
            // Whoever has stopped waiting asks again.
            if answer.is_closed() {
                continue;
            }
            let planned = self.plan_update(id, &change);
            let client = || self.client().map_err(|source| failed(id, source));
            match planned.and_then(|planned| Ok((planned, client()?))) {
                Ok((planned, client)) => self.begin_update(id, planned, client, answer),
                Err(error) => {
                    let _ = answer.send(Err(Arc::new(error)));
                }
            }
        }
    }

    fn begin_update(
        &mut self,
        id: &Id,
        (update, merged): (Update, cri::LinuxContainerResources),
        client: Client,
        answer: Answer<(), ContainerError>,
    ) {
        if let Some(slot) = self.containers.get_mut(id) {
            slot.updates.under_way = true;
        }
        let id = id.clone();
        self.begin(async move {
            let nothing =
                update.oom_score_adj.is_none() && update.resources == LinuxResources::default();
            let result = if nothing {
                Ok(())
            } else {
                client.update(update).await
            };
            let updated = Updated {
                merged,
                result,
                answer,
            };
            Done::Updated(id, updated)
        });
    }

    /// What the shim is to do, and all limits as they will be then.
    fn plan_update(
        &self,
        id: &Id,
        change: &cri::LinuxContainerResources,
    ) -> Result<(Update, cri::LinuxContainerResources), ContainerError> {
        let slot = self.containers.get(id);
        let slot = slot.ok_or_else(|| denied(id, Denied::NotRunning))?;
        let why = match &slot.view.state {
            _ if slot.removing => Some(Denied::NotRunning),
            State::Exited { .. } => Some(Denied::AlreadyExited),
            state if state.process().is_none() => Some(Denied::NotRunning),
            _ => None,
        };
        if let Some(why) = why {
            return Err(denied(id, why));
        }
        let facts = &slot.view.facts;
        let held = self.daemon.limits.held(facts);
        let (resources, merged) =
            update_resources(&held, change, &self.daemon.features).map_err(|source| {
                ContainerError::Spec {
                    name: facts.metadata().name,
                    source,
                }
            })?;
        let score = i32::try_from(merged.oom_score_adj).ok();
        let update = Update {
            id: id.to_string(),
            resources,
            oom_score_adj: score.filter(|_| change.oom_score_adj != 0),
        };
        Ok((update, merged))
    }

    pub(super) fn container_updated(&mut self, id: &Id, updated: Updated) {
        let Updated {
            merged,
            result,
            answer,
        } = updated;
        if result.is_ok()
            && let Some(slot) = self.containers.get_mut(id)
        {
            let ContainerView { facts, state, .. } = &*slot.view;
            let facts = Arc::new(Clone::clone(&**facts).with_resources(merged));
            slot.view = Arc::new(ContainerView::new(facts, state.clone()));
            self.save_container(id);
            self.publish();
        }
        let _ = answer.send(result.map_err(|source| Arc::new(failed(id, source))));
        if let Some(slot) = self.containers.get_mut(id) {
            slot.updates.under_way = false;
            self.next_update(id);
        }
    }
}

fn denied(id: &Id, denied: Denied) -> ContainerError {
    ContainerError::Denied {
        action: "update",
        id: id.clone(),
        denied,
    }
}

fn failed(id: &Id, source: ShimError) -> ContainerError {
    ContainerError::Shim {
        action: "update",
        id: id.clone(),
        source,
    }
}
