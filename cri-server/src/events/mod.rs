//! Events of pods and containers, for clients that do not want to ask every second.
//!
//! A pod's task compares what readers saw with what they see now ([`change`]), and puts what has
//! changed, with the view itself, into a ring that all subscribers read at their own pace. The
//! words of the CRI are found on the subscriber's side. Without a subscriber nothing is compared.
//!
//! What must hold:
//!
//! - An event is told after it can be seen, and its time is taken after that: a client that has
//!   read an older view took its time before, so it takes the event for the newer word
//!   (Kubernetes, KEP-3386: the kubelet keeps of two statuses the one with the later time).
//! - A subscriber that does not keep up holds up nobody. Its stream ends with an error, upon which
//!   a client asks for everything anew; what it lost is counted.

pub mod change;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use skiff_cri::v1::ContainerEventType as Kind;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::clock;
use crate::id::Id;
use crate::pod::PodView;
use crate::store::Store;

/// How many events a subscriber may be behind: what a kubelet can queue itself.
const CAPACITY: usize = 1024;

/// How long ago a container may have ended for a new subscriber to be told: one that connects
/// again has not heard of what happened between.
const RECENT: Duration = Duration::from_secs(60);

/// Something has happened to a pod or a container.
#[derive(Debug, Clone)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// The container, or the pod itself.
    pub id: Id,
    /// Nanoseconds since the epoch: after `pod` could be read.
    pub at: i64,
    /// Its pod, or a newer one with the same name that has taken its place.
    pub pod: Arc<PodView>,
}

/// A subscriber was so slow that events had to be thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the client has read so slowly that {0} events were dropped; list pods and subscribe again"
)]
pub struct Lost(pub u64);

/// Where events come together.
#[derive(Debug)]
pub struct Events {
    ring: broadcast::Sender<Event>,
    dropped: Arc<AtomicU64>,
    /// Nobody has subscribed since the daemon was started.
    unheard: AtomicBool,
}

impl Default for Events {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Events {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            ring: broadcast::Sender::new(capacity),
            dropped: Arc::default(),
            unheard: AtomicBool::new(true),
        }
    }

    /// Tells what has changed between two views of a pod, the second of which is published.
    pub fn changed(&self, before: &PodView, after: &Arc<PodView>, store: &Store) {
        if self.ring.receiver_count() == 0 {
            return;
        }
        let changes = change::between(before, after);
        if !changes.is_empty() {
            self.tell(changes, after, store);
        }
    }

    /// Tells that a pod has been removed. Readers do not see it any more.
    pub fn removed(&self, last: &Arc<PodView>, store: &Store) {
        if self.ring.receiver_count() > 0 {
            let id = last.facts.id.clone();
            self.tell(vec![(Kind::ContainerDeletedEvent, id)], last, store);
        }
    }

    fn tell(&self, changes: Vec<(Kind, Id)>, view: &Arc<PodView>, store: &Store) {
        let (at, pod) = shown(view, store);
        for (kind, id) in changes {
            let pod = Arc::clone(&pod);
            // The last subscriber may have left.
            let _ = self.ring.send(Event { kind, id, at, pod });
        }
    }

    /// A subscriber, with the ends that it may have missed: those of the last minute, and for the
    /// first one of this daemon all that are still to be seen, because nobody knows of whom it has
    /// heard.
    pub fn subscribe(&self, store: &Store) -> (Vec<Event>, Subscription) {
        let subscription = Subscription {
            ring: self.ring.subscribe(),
            dropped: Arc::clone(&self.dropped),
        };
        let recent = i64::try_from(RECENT.as_nanos()).unwrap_or(i64::MAX);
        let since = match self.unheard.swap(false, Ordering::Relaxed) {
            true => 0,
            false => clock::now() - recent,
        };
        (missed(store, since), subscription)
    }

    /// How many listen.
    pub fn subscribers(&self) -> usize {
        self.ring.receiver_count()
    }

    /// Events that were thrown away because of slow subscribers.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// A pod's events show the newest pod of its name: the client keeps one status for all of them,
/// and one that speaks of an old pod would replace that of the new one. The time is taken first.
fn shown(view: &Arc<PodView>, store: &Store) -> (i64, Arc<PodView>) {
    let at = clock::now();
    let newest = store.successor(&view.facts.metadata().into());
    (at, newest.unwrap_or_else(|| Arc::clone(view)))
}

/// The ends of containers since a time in nanoseconds since the epoch.
fn missed(store: &Store, since: i64) -> Vec<Event> {
    let mut events = Vec::new();
    for pod in store.pods() {
        let own = pod.view();
        let (at, pod) = shown(&own, store);
        let ended = own.containers.iter().filter(|(_, container)| {
            let exit = container.state.exit();
            exit.is_some_and(|exit| exit.finished_at >= since)
        });
        events.extend(ended.map(|(id, _)| Event {
            kind: Kind::ContainerStoppedEvent,
            id: id.clone(),
            at,
            pod: Arc::clone(&pod),
        }));
    }
    events
}

/// One who listens.
#[derive(Debug)]
pub struct Subscription {
    ring: broadcast::Receiver<Event>,
    dropped: Arc<AtomicU64>,
}

impl Subscription {
    /// The next event; `None` when there can be no more.
    pub async fn next(&mut self) -> Option<Result<Event, Lost>> {
        match self.ring.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(RecvError::Lagged(number)) => {
                self.dropped.fetch_add(number, Ordering::Relaxed);
                Some(Err(Lost(number)))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests;
