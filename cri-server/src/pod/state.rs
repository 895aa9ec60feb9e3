//! The life of a pod, as a pure function of what happens to it.

use serde::{Deserialize, Serialize};

/// Where a pod is in its life.
///
/// ```text
///            started           stop              stopped
///  Starting ─────────> Ready ────────> Stopping ─────────> NotReady
///     │                  │                 ^                 │ ^ ^
///     │                  │                 └───── stop ──────┘ │ │
///     │                  └──────────────── lost ───────────────┘ │
///     └─────────────────────────── failed ───────────────────────┘
/// ```
///
/// `Starting` is on disk so that a daemon that died meanwhile knows what to undo; clients never
/// see it. A pod that failed to stop is `NotReady` and can be asked to stop again; so is one that
/// could neither be started nor undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Resources are being made.
    Starting,
    /// Containers can run in it.
    Ready,
    /// Its containers are being killed and its network is being given back.
    Stopping,
    /// Nothing runs in it.
    NotReady,
}

/// What can happen to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// All its resources are there.
    Started,
    /// It cannot become complete, and what it holds could not be given back at once.
    Failed,
    /// A client wants it stopped.
    Stop,
    /// Stopping has ended, well or badly.
    Stopped,
    /// Its shim has ended without being asked, or can run no container any more.
    Lost,
}

/// Why something cannot happen to a pod now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is not complete yet.
    #[error("the pod is still being started")]
    NotStarted,
    /// It cannot become complete any more.
    #[error("the pod has been started before")]
    AlreadyStarted,
}

/// The state after an event.
pub fn step(state: State, event: Event) -> Result<State, Denied> {
    use State::{NotReady, Ready, Starting, Stopping};
    match (state, event) {
        (Starting, Event::Started) => Ok(Ready),
        (Starting, Event::Failed) => Ok(NotReady),
        (Starting, _) => Err(Denied::NotStarted),
        (_, Event::Started | Event::Failed) => Err(Denied::AlreadyStarted),
        (_, Event::Stop) => Ok(Stopping),
        (Stopping, Event::Lost) => Ok(Stopping),
        (Ready | NotReady, Event::Lost) => Ok(NotReady),
        // A late word of an earlier stop must not end the life of a pod that is ready.
        (Ready, Event::Stopped) => Ok(Ready),
        (Stopping | NotReady, Event::Stopped) => Ok(NotReady),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_life() {
        let ready = step(State::Starting, Event::Started).unwrap();
        assert_eq!(ready, State::Ready);
        let stopping = step(ready, Event::Stop).unwrap();
        // The shim that was told to end ends.
        assert_eq!(step(stopping, Event::Lost), Ok(State::Stopping));
        let stopped = step(stopping, Event::Stopped).unwrap();
        assert_eq!(stopped, State::NotReady);
        assert_eq!(step(stopped, Event::Stop), Ok(State::Stopping));
    }

    #[test]
    fn a_pod_that_could_not_be_started_can_be_stopped() {
        let failed = step(State::Starting, Event::Failed).unwrap();
        assert_eq!(failed, State::NotReady);
        assert_eq!(step(failed, Event::Stop), Ok(State::Stopping));
        assert!(step(State::Ready, Event::Failed).is_err());
    }

    #[test]
    fn a_pod_without_its_shim_is_not_ready() {
        assert_eq!(step(State::Ready, Event::Lost), Ok(State::NotReady));
    }

    proptest! {
        #[test]
        fn a_pod_that_was_left_never_becomes_ready_again(events in prop::collection::vec(
            prop_oneof![
                Just(Event::Started),
                Just(Event::Failed),
                Just(Event::Stop),
                Just(Event::Stopped),
                Just(Event::Lost),
            ],
            0..20,
        )) {
            let mut state = State::Starting;
            let mut left = false;
            for event in events {
                let Ok(next) = step(state, event) else { continue };
                left |= next != State::Ready;
                prop_assert!(!(left && next == State::Ready));
                prop_assert!(next != State::Starting);
                state = next;
            }
        }
    }
}
