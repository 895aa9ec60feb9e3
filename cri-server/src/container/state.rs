//! The life of a container, as a pure function of what happens to it.

use serde::{Deserialize, Serialize};

use super::exit::Exit;
use crate::shim::process::ProcessId;

/// Where a container is in its life.
///
/// ```text
///            created            start              started
///  Creating ─────────> Created ───────> Starting ───────────> Running
///                       │  ^               │ │                   │
///                       │  └── unstarted ──┘ │ ended             │ ended
///                       │ ended              v                   │
///                       └─────────────────> Exited <─────────────┘
///                                            ^
///       Created, Starting, Running           │ ended
///              │ ^                           │
///         lost v │ found                     │
///             Unknown ───────────────────────┘
/// ```
///
/// `Creating` is on disk so that a daemon that died meanwhile knows what to undo; clients never
/// see it. `Starting` is a `Created` one whose command may run at any moment. `Unknown` is never
/// on disk: the record keeps what was known, and the next daemon finds out anew. A daemon that
/// was not there meanwhile, or not heard, is told by the shim how a container is (`found`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum State {
    /// Resources are being made.
    Creating,
    /// The first process waits before its exec.
    Created {
        /// That process.
        process: ProcessId,
    },
    /// The first process has been told to exec.
    Starting {
        /// That process.
        process: ProcessId,
    },
    /// The command runs.
    Running {
        /// Its process.
        process: ProcessId,
        /// Nanoseconds since the epoch.
        started_at: i64,
    },
    /// Nobody can tell how it is.
    #[serde(skip)]
    Unknown {
        /// Nanoseconds since the epoch; 0 when it had not been started.
        started_at: i64,
        /// Why.
        why: String,
    },
    /// It has ended, or never could run.
    Exited {
        /// How.
        exit: Exit,
    },
}

/// What can happen to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The shim has built it.
    Created(ProcessId),
    /// A client wants it to run.
    Start,
    /// Its command runs since then, nanoseconds since the epoch.
    Started(i64),
    /// It was not started after all and waits as before.
    Unstarted,
    /// Its shim tells a daemon that has missed something how it is.
    Found {
        /// Its first process.
        process: ProcessId,
        /// Nanoseconds since the epoch; 0 before its start.
        started_at: i64,
    },
    /// Nobody can tell any more how it is, and why.
    Lost(String),
    /// It has ended.
    Ended(Exit),
}

/// Why something cannot happen to a container now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is not complete yet.
    #[error("the container is still being created")]
    NotCreated,
    /// It runs, or is about to.
    #[error("the container has been started before")]
    AlreadyStarted,
    /// It is over.
    #[error("the container has exited")]
    AlreadyExited,
    /// It does not run.
    #[error("the container is not running")]
    NotRunning,
    /// Nobody can tell.
    #[error("what has become of the container is not known")]
    NotKnown,
}

/// The state after an event. What a shim tells of a container that has ended is no news: the
/// first end stays.
pub fn step(state: &State, event: Event) -> Result<State, Denied> {
    match (state, event) {
        (State::Creating, Event::Created(process)) => Ok(State::Created { process }),
        (State::Exited { .. }, Event::Found { .. } | Event::Lost(_)) => Ok(state.clone()),
        (
            _,
            Event::Found {
                process,
                started_at,
            },
        ) => Ok(match started_at {
            1.. => State::Running {
                process,
                started_at,
            },
            _ => State::Created { process },
        }),
        (State::Creating, Event::Ended(exit)) => Ok(State::Exited { exit }),
        (State::Creating, _) => Err(Denied::NotCreated),
        (_, Event::Lost(why)) => Ok(State::Unknown {
            started_at: state.started_at(),
            why,
        }),

        (State::Unknown { .. }, Event::Start) => Err(Denied::NotKnown),
        (State::Unknown { .. }, Event::Started(_) | Event::Unstarted) => Ok(state.clone()),

        (State::Created { process }, Event::Start) => Ok(State::Starting { process: *process }),
        (State::Created { .. }, Event::Started(_) | Event::Unstarted) => Err(Denied::NotRunning),

        (State::Starting { process }, Event::Started(started_at)) => Ok(State::Running {
            process: *process,
            started_at,
        }),
        (State::Starting { process }, Event::Unstarted) => Ok(State::Created { process: *process }),
        (State::Starting { .. } | State::Running { .. }, Event::Start) => {
            Err(Denied::AlreadyStarted)
        }
        (State::Running { .. }, Event::Started(_) | Event::Unstarted) => {
            Err(Denied::AlreadyStarted)
        }

        (State::Exited { .. }, Event::Start) => Err(Denied::AlreadyExited),
        (State::Exited { .. }, Event::Started(_) | Event::Unstarted | Event::Ended(_)) => {
            Ok(state.clone())
        }

        (_, Event::Ended(exit)) => Ok(State::Exited { exit }),
        (_, Event::Created(_)) => Err(Denied::AlreadyStarted),
    }
}

impl State {
    /// The first process, while there is one.
    pub fn process(&self) -> Option<ProcessId> {
        match self {
            Self::Created { process }
            | Self::Starting { process }
            | Self::Running { process, .. } => Some(*process),
            Self::Creating | Self::Unknown { .. } | Self::Exited { .. } => None,
        }
    }

    /// When its command was executed, in nanoseconds since the epoch; 0 before.
    pub fn started_at(&self) -> i64 {
        match self {
            Self::Running { started_at, .. } | Self::Unknown { started_at, .. } => *started_at,
            Self::Exited { exit } => exit.started_at,
            Self::Creating | Self::Created { .. } | Self::Starting { .. } => 0,
        }
    }

    /// Whether the command runs.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// How it ended, once it has.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Self::Exited { exit } => Some(exit),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn process() -> ProcessId {
        ProcessId {
            pid: 7,
            start_time: 70,
        }
    }

    fn exit(code: i32) -> Exit {
        Exit {
            code,
            reason: "Error".into(),
            message: String::new(),
            started_at: 1,
            finished_at: 2,
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Created(process())),
            Just(Event::Start),
            (1..100i64).prop_map(Event::Started),
            Just(Event::Unstarted),
            (0..256).prop_map(|code| Event::Ended(exit(code))),
            (0..9i64).prop_map(|started_at| Event::Found {
                process: process(),
                started_at
            }),
            Just(Event::Lost("silent".into())),
        ]
    }

    #[test]
    fn the_usual_life() {
        let mut state = State::Creating;
        for event in [Event::Created(process()), Event::Start, Event::Started(5)] {
            state = step(&state, event).unwrap();
        }
        assert_eq!(
            state,
            State::Running {
                process: process(),
                started_at: 5
            }
        );
        assert_eq!(step(&state, Event::Start), Err(Denied::AlreadyStarted));
        state = step(&state, Event::Ended(exit(3))).unwrap();
        assert_eq!(state.exit().unwrap().code, 3);
        assert_eq!(step(&state, Event::Start), Err(Denied::AlreadyExited));
    }

    /// The exit may overtake the answer to the start that caused it.
    #[test]
    fn started_after_the_end_changes_nothing() {
        let state = State::Starting { process: process() };
        let ended = step(&state, Event::Ended(exit(0))).unwrap();
        assert_eq!(step(&ended, Event::Started(9)), Ok(ended.clone()));
    }

    #[test]
    fn what_was_lost_is_found_as_it_is_or_has_ended() {
        let (process, started_at) = (process(), 5);
        let running = State::Running {
            process,
            started_at,
        };
        let lost = step(&running, Event::Lost("silent".into())).unwrap();
        assert_eq!((lost.started_at(), lost.process()), (5, None));
        assert_eq!(step(&lost, Event::Start), Err(Denied::NotKnown));
        assert!(serde_json::to_string(&lost).is_err(), "never on disk");
        let found = Event::Found {
            process,
            started_at,
        };
        assert_eq!(step(&lost, found.clone()), Ok(running));
        let ended = step(&lost, Event::Ended(exit(3))).unwrap();
        assert_eq!(step(&ended, found), Ok(ended.clone()));
        assert_eq!(step(&ended, Event::Lost("silent".into())), Ok(ended));
    }

    proptest! {
        #[test]
        fn an_end_is_final_and_nothing_runs_unstarted(events in prop::collection::vec(event(), 0..30)) {
            let mut state = State::Creating;
            let mut wanted = false;
            for event in events {
                let start = event == Event::Start
                    || matches!(event, Event::Found { started_at: 1.., .. });
                let Ok(next) = step(&state, event) else { continue };
                wanted |= start;
                if let Some(exit) = state.exit() {
                    prop_assert_eq!(next.exit(), Some(exit));
                }
                prop_assert!(!next.is_running() || wanted);
                prop_assert!(next != State::Creating);
                state = next;
            }
        }
    }
}
