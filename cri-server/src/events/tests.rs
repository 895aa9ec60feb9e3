use super::*;
use crate::container::resources::Limits;
use crate::events::change::tests::{container, pod_view, running};

fn told(subscription: &mut Subscription) -> Option<Result<Event, Lost>> {
    use futures_util::FutureExt;
    subscription.next().now_or_never().flatten()
}

#[test]
fn a_subscriber_is_told_of_a_change_and_when_it_could_be_seen() {
    let (events, store) = (Events::default(), Store::default());
    let (missed, mut subscription) = events.subscribe(&store);
    assert!(missed.is_empty());
    let before = pod_view("a", 0, &[container("c", running())]);
    let after = Arc::new(pod_view("a", 0, &[]));
    let seen_at = clock::now();
    events.changed(&before, &after, &store);
    let event = told(&mut subscription).unwrap().unwrap();
    assert_eq!(event.kind, Kind::ContainerDeletedEvent);
    assert!(event.at >= seen_at);
    assert!(Arc::ptr_eq(&event.pod, &after));
    assert!(told(&mut subscription).is_none());
}

#[test]
fn a_slow_subscriber_ends_with_an_error_and_holds_up_nobody() {
    let (events, store) = (Events::with_capacity(4), Store::default());
    let (_, mut slow) = events.subscribe(&store);
    let (_, mut quick) = events.subscribe(&store);
    let gone = Arc::new(pod_view("a", 0, &[]));
    for _ in 0..7 {
        events.removed(&gone, &store);
        assert!(told(&mut quick).unwrap().is_ok());
    }
    assert_eq!(told(&mut slow).unwrap().unwrap_err(), Lost(3));
    assert_eq!(events.dropped(), 3);
}

#[test]
fn the_first_subscriber_is_told_of_every_end_and_the_next_of_recent_ones() {
    let (events, store) = (Events::default(), Store::default());
    let view = |name: &str, finished_at| {
        let ended = container(name, change::tests::exited("Completed", finished_at));
        change::tests::enter(&store, pod_view(name, 0, &[ended]));
    };
    view("a", 5);
    view("b", clock::now());
    assert_eq!(events.subscribe(&store).0.len(), 2);
    let recent = events.subscribe(&store).0;
    assert_eq!(recent.len(), 1);
    assert_eq!(recent[0].kind, Kind::ContainerStoppedEvent);
    assert_eq!(recent[0].pod.facts.metadata().name, "b");
}

/// A kubelet would take the old pod's status for that of the new one, and its removal for the
/// removal of the pod.
#[test]
fn what_happens_to_a_pod_that_has_been_replaced_shows_its_successor() {
    let (events, store) = (Events::default(), Store::default());
    let (_, mut subscription) = events.subscribe(&store);
    let old = Arc::new(pod_view("a", 0, &[]));
    for attempt in [1, 2] {
        change::tests::enter(&store, pod_view("a", attempt, &[]));
    }
    events.removed(&old, &store);
    let event = told(&mut subscription).unwrap().unwrap();
    assert_eq!(event.id, old.facts.id);
    assert_eq!(event.pod.facts.metadata().attempt, 2);
}

/// A kubelet with evented PLEG takes the first container of a name for the newest: told of the one
/// before, it would start it again, which is refused as it is there.
#[test]
fn the_newest_container_is_told_first() {
    let made_at = |name: &str, created_at| {
        let mut view = container(name, running());
        let facts = crate::container::Facts {
            created_at,
            ..(*view.facts).clone()
        };
        Arc::make_mut(&mut view).facts = Arc::new(facts);
        view
    };
    let made = [made_at("a", 2), made_at("b", 3), made_at("c", 1)];
    let told: Vec<_> = pod_view("p", 0, &made)
        .container_statuses(&Limits::default())
        .into_iter()
        .map(|status| status.created_at)
        .collect();
    assert_eq!(told, [3, 2, 1]);
}
