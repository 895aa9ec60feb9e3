//! What a container may do next, as a pure function.

use std::fmt;

/// Where a container is in its life.
///
/// ```text
///            Built            Start             Executed
///  Creating ───────> Created ───────> Starting ──────────> Running
///   │    │            │   │            │   │                │   │
///   │    │ Delete     │   │ Died       │   │ Died           │   │ Died
///   │    v            │   └────────────┴───┼────────────────┘   v
///   │  Abandoned      │ Delete             │ Delete           Stopped
///   │    │            └───────> Doomed <───┘ (Running, too)     │
///   │ Died │ Died                 │ Died                        │ Delete
///   └──────┴──────────────────────┴──────> Removing <───────────┘
///                                             │ Removed
///                                             v
///                                           Gone
/// ```
///
/// Exec, Kill, Attach, Update and ReopenLog change nothing and are allowed where [`step`] says so. Delete is
/// allowed everywhere; from Abandoned, Doomed and Removing it asks for the same once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The child builds it.
    Creating,
    /// It waits for Start.
    Created,
    /// It was let go; whether its command could be executed is not known yet.
    Starting,
    /// Its command runs.
    Running,
    /// Its first process has ended and its exit is told.
    Stopped,
    /// To be removed before it was created; its process is killed but not reaped.
    Abandoned,
    /// To be removed; its process is killed but not reaped.
    Doomed,
    /// No process of ours is left; its cgroup goes.
    Removing,
    /// Nothing is left.
    Gone,
}

/// What is asked of a container, and what happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// The child has built it.
    Built,
    /// Asked to start.
    Start,
    /// The command was executed.
    Executed,
    /// The first process was reaped.
    Died,
    /// Asked to run a further process.
    Exec,
    /// Asked to send a signal.
    Kill,
    /// Asked to attach a client.
    Attach,
    /// Asked to change its limits.
    Update,
    /// Asked to open the log anew.
    ReopenLog,
    /// Asked to forget it.
    Delete,
    /// The cgroup is removed.
    Removed,
}

/// What is to be done on the way to the next state, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Answer the Create.
    AnswerCreate,
    /// Let the process execute its command.
    LetGo,
    /// Answer the Start.
    AnswerStart,
    /// Kill everything in its cgroup.
    KillAll,
    /// Log what it still had to say, write its exit record, tell everyone.
    Conclude,
    /// Try to remove its cgroup.
    Remove,
}

/// The call does not fit the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot {input} a container that {state}")]
pub(crate) struct Denied {
    state: State,
    input: Input,
}

/// The next state, and what is to be done on the way there.
pub(crate) fn step(state: State, input: Input) -> Result<(State, &'static [Action]), Denied> {
    use {Action as A, Input as I, State as S};
    let next: (State, &'static [Action]) = match (state, input) {
        (S::Creating, I::Built) => (S::Created, &[A::AnswerCreate]),
        (S::Creating, I::Died) => (S::Removing, &[A::Remove]),
        (S::Creating, I::Delete) => (S::Abandoned, &[A::KillAll]),

        (S::Created, I::Start) => (S::Starting, &[A::LetGo]),
        (S::Starting, I::Executed) => (S::Running, &[A::AnswerStart]),
        (S::Created | S::Starting | S::Running, I::Died) => (S::Stopped, &[A::Conclude]),
        (S::Created | S::Starting | S::Running, I::Delete) => (S::Doomed, &[A::KillAll]),
        (S::Created | S::Starting | S::Running, I::Kill | I::Attach | I::Update) => (state, &[]),
        (S::Running, I::Exec | I::ReopenLog) => (state, &[]),

        // A signal may have been on its way when the container ended.
        (S::Stopped, I::Kill) => (state, &[]),
        (S::Stopped, I::Delete) => (S::Removing, &[A::KillAll, A::Remove]),

        (S::Abandoned, I::Died) => (S::Removing, &[A::Remove]),
        (S::Doomed, I::Died) => (S::Removing, &[A::Conclude, A::Remove]),
        // News from before the kill.
        (S::Abandoned | S::Doomed, I::Built | I::Executed) => (state, &[]),
        (S::Abandoned | S::Doomed, I::Delete) => (state, &[A::KillAll]),
        (S::Removing, I::Delete) => (state, &[A::KillAll, A::Remove]),
        (S::Removing, I::Removed) => (S::Gone, &[]),

        _ => return Err(Denied { state, input }),
    };
    Ok(next)
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "is being created",
            Self::Created => "is created and not started",
            Self::Starting => "is being started",
            Self::Running => "is running",
            Self::Stopped => "has ended",
            Self::Abandoned | Self::Doomed | Self::Removing => "is being removed",
            Self::Gone => "is removed",
        })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Built => "finish building",
            Self::Start => "start",
            Self::Executed => "execute the command of",
            Self::Died => "reap",
            Self::Exec => "run a process in",
            Self::Kill => "signal",
            Self::Attach => "attach to",
            Self::Update => "change the limits of",
            Self::ReopenLog => "reopen the log of",
            Self::Delete | Self::Removed => "remove",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            Just(Input::Built),
            Just(Input::Start),
            Just(Input::Executed),
            Just(Input::Died),
            Just(Input::Exec),
            Just(Input::Kill),
            Just(Input::Attach),
            Just(Input::Update),
            Just(Input::ReopenLog),
            Just(Input::Delete),
            Just(Input::Removed),
        ]
    }

    /// Plays inputs from the beginning; a denied one changes nothing.
    fn play(inputs: &[Input]) -> (State, Vec<Input>, Vec<Action>) {
        let (mut state, mut taken, mut done) = (State::Creating, Vec::new(), Vec::new());
        for &input in inputs {
            if let Ok((next, actions)) = step(state, input) {
                state = next;
                taken.push(input);
                done.extend_from_slice(actions);
            }
        }
        (state, taken, done)
    }

    fn count(done: &[Action], action: Action) -> usize {
        done.iter().filter(|&&other| other == action).count()
    }

    #[test]
    fn a_whole_life() {
        use {Action as A, Input as I};
        let (state, _, done) = play(&[
            I::Built,
            I::Start,
            I::Executed,
            I::Exec,
            I::Kill,
            I::Died,
            I::Delete,
            I::Removed,
        ]);
        assert_eq!(state, State::Gone);
        assert_eq!(
            done,
            [
                A::AnswerCreate,
                A::LetGo,
                A::AnswerStart,
                A::Conclude,
                A::KillAll,
                A::Remove
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let denied = step(State::Created, Input::Exec).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "cannot run a process in a container that is created and not started"
        );
        assert!(step(State::Creating, Input::Kill).is_err());
        assert!(step(State::Stopped, Input::ReopenLog).is_err());
        assert!(step(State::Stopped, Input::Attach).is_err());
        assert!(step(State::Stopped, Input::Update).is_err());
        assert!(step(State::Creating, Input::Update).is_err());
        assert!(step(State::Stopped, Input::Start).is_err());
    }

    proptest! {
        #[test]
        fn each_answer_and_the_exit_come_at_most_once(
            inputs in proptest::collection::vec(input(), 0..40),
        ) {
            let (_, _, done) = play(&inputs);
            for action in [Action::AnswerCreate, Action::LetGo, Action::AnswerStart] {
                prop_assert!(count(&done, action) <= 1);
            }
            prop_assert!(count(&done, Action::Conclude) <= 1);
        }

        #[test]
        fn an_exit_is_told_of_everything_created_and_reaped(
            inputs in proptest::collection::vec(input(), 0..40),
        ) {
            let (_, taken, done) = play(&inputs);
            let created = count(&done, Action::AnswerCreate) == 1;
            let died = taken.contains(&Input::Died);
            prop_assert_eq!(count(&done, Action::Conclude) == 1, created && died);
        }

        #[test]
        fn a_cgroup_is_removed_only_when_the_process_is_reaped(
            inputs in proptest::collection::vec(input(), 0..40),
        ) {
            let mut state = State::Creating;
            let mut died = false;
            for input in inputs {
                let Ok((next, actions)) = step(state, input) else { continue };
                died |= input == Input::Died;
                prop_assert!(died || !actions.contains(&Action::Remove));
                state = next;
            }
        }

        #[test]
        fn a_process_dies_at_any_time_and_delete_always_leads_to_the_end(
            inputs in proptest::collection::vec(input(), 0..40),
        ) {
            let (mut state, taken, _) = play(&inputs);
            if state != State::Gone && !(state == State::Removing) {
                state = step(state, Input::Delete).unwrap().0;
            }
            if !taken.contains(&Input::Died) {
                state = step(state, Input::Died).unwrap().0;
            }
            if state == State::Removing {
                state = step(state, Input::Removed).unwrap().0;
            }
            prop_assert_eq!(state, State::Gone);
        }
    }
}
