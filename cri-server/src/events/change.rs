//! What has happened between two views of a pod, as a pure function.
//!
//! ```text
//!  pod         (starting) ── CREATED, STARTED ──> ready ── STOPPED ──> not ready ── DELETED ──>
//!  container   ── CREATED ──> created ── STARTED ──> running ── STOPPED ──> exited ── DELETED ──>
//! ```
//!
//! A pod has stopped when nothing runs in it any more, so after its containers. A container that
//! was to be started and is found ended has run in between, unless its end says otherwise; and so has
//! one whose end tells of a time before, where the start was too quick to be seen.

use std::sync::Arc;

use skiff_cri::v1::ContainerEventType as Kind;

use crate::container::{ContainerView, Exit, State};
use crate::id::Id;
use crate::pod::{PodView, State as PodState};

/// What has happened, in its order: to containers before it ends the pod they are in.
pub fn between(before: &PodView, after: &PodView) -> Vec<(Kind, Id)> {
    let mut changes = Vec::new();
    let pod = |kinds: &[Kind]| {
        let id = &after.facts.id;
        kinds.iter().map(|kind| (*kind, id.clone())).collect()
    };
    if !before.is_visible() && after.is_visible() {
        changes = pod(&[Kind::ContainerCreatedEvent, Kind::ContainerStartedEvent]);
    }
    for (id, container) in &after.containers {
        let earlier = before.containers.get(id);
        // Most containers are as they were.
        if earlier.is_some_and(|earlier| Arc::ptr_eq(earlier, container)) {
            continue;
        }
        let kinds = of_container(earlier.map(|earlier| &**earlier), container);
        changes.extend(kinds.map(|kind| (kind, id.clone())));
    }
    let gone = before.containers.keys();
    let gone = gone.filter(|id| !after.containers.contains_key(*id));
    changes.extend(gone.map(|id| (Kind::ContainerDeletedEvent, id.clone())));
    if before.state != PodState::NotReady && after.state == PodState::NotReady {
        changes.extend::<Vec<_>>(pod(&[Kind::ContainerStoppedEvent]));
    }
    changes
}

fn of_container(
    before: Option<&ContainerView>,
    after: &ContainerView,
) -> impl Iterator<Item = Kind> {
    let ended = |view: &ContainerView| view.state.exit().is_some();
    let created = before.is_none();
    let to_be_started = before.is_some_and(|view| matches!(view.state, State::Starting { .. }));
    let has_come_and_gone = |exit: &Exit| {
        !exit.is_start_error() && (to_be_started || exit.started_at < exit.finished_at)
    };
    let stopped = ended(after) && !before.is_some_and(ended);
    let started = !before.is_some_and(has_run)
        && (has_run(after) || stopped && after.state.exit().is_some_and(has_come_and_gone));
    [
        (created, Kind::ContainerCreatedEvent),
        (started, Kind::ContainerStartedEvent),
        (stopped, Kind::ContainerStoppedEvent),
    ]
    .into_iter()
    .filter_map(|(happened, kind)| happened.then_some(kind))
}

/// Whether its command has run, as far as its state tells: of an ended one it does not.
fn has_run(view: &ContainerView) -> bool {
    match &view.state {
        State::Running { .. } => true,
        State::Unknown { started_at, .. } => *started_at > 0,
        _ => false,
    }
}

#[cfg(test)]
pub(crate) mod tests;
