//! When a container that was asked to stop is killed. Pure: the clock comes from outside.

use std::time::{Duration, Instant};

/// How long the kernel gets to end a container after SIGKILL before a client is told that it
/// does not: a process in uninterruptible sleep dies when it wakes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The plan for stopping one container.
///
/// ```text
///        request: ask           grace over, or a request with none left: kill
///  Idle ──────────────> Asked ────────────────────────────────────────────────> Killed
///   ^                    ^ │ request with a shorter grace                          │
///   │                    └─┘                                                       │
///   └──────────────────────────── patience over: give up ──────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stop {
    /// Nobody asked.
    #[default]
    Idle,
    /// The stop signal was sent.
    Asked {
        /// When the grace is over.
        kill_at: Instant,
    },
    /// SIGKILL was sent.
    Killed {
        /// When waiting becomes pointless.
        give_up_at: Instant,
    },
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send the stop signal to the first process.
    Ask,
    /// Kill all processes.
    Kill,
    /// Tell those who wait that it does not end.
    GiveUp,
}

impl Stop {
    /// Somebody wants it stopped after at most `grace`. The grace of a second request can only
    /// shorten that of the first.
    pub fn request(self, now: Instant, grace: Duration) -> (Self, Option<Action>) {
        match self {
            Self::Killed { .. } => (self, None),
            _ if grace.is_zero() => Self::kill(now),
            Self::Idle => (
                Self::Asked {
                    kill_at: now + grace,
                },
                Some(Action::Ask),
            ),
            Self::Asked { kill_at } => (
                Self::Asked {
                    kill_at: kill_at.min(now + grace),
                },
                None,
            ),
        }
    }

    /// Time has passed.
    pub fn tick(self, now: Instant) -> (Self, Option<Action>) {
        match self {
            Self::Asked { kill_at } if kill_at <= now => Self::kill(now),
            Self::Killed { give_up_at } if give_up_at <= now => (Self::Idle, Some(Action::GiveUp)),
            _ => (self, None),
        }
    }

    /// When [`Stop::tick`] will have something to say.
    pub fn deadline(self) -> Option<Instant> {
        match self {
            Self::Idle => None,
            Self::Asked { kill_at } => Some(kill_at),
            Self::Killed { give_up_at } => Some(give_up_at),
        }
    }

    fn kill(now: Instant) -> (Self, Option<Action>) {
        (
            Self::Killed {
                give_up_at: now + PATIENCE,
            },
            Some(Action::Kill),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn asks_then_kills_then_gives_up() {
        let now = Instant::now();
        let (stop, action) = Stop::Idle.request(now, 10 * S);
        assert_eq!(action, Some(Action::Ask));
        assert_eq!(stop.tick(now + 9 * S), (stop, None));
        let (stop, action) = stop.tick(now + 10 * S);
        assert_eq!(action, Some(Action::Kill));
        let (stop, action) = stop.tick(now + 10 * S + PATIENCE);
        assert_eq!((stop, action), (Stop::Idle, Some(Action::GiveUp)));
    }

    #[test]
    fn no_grace_kills_at_once() {
        let (_, action) = Stop::Idle.request(Instant::now(), Duration::ZERO);
        assert_eq!(action, Some(Action::Kill));
    }

    #[test]
    fn a_second_request_shortens_and_never_lengthens() {
        let now = Instant::now();
        let (stop, _) = Stop::Idle.request(now, 30 * S);
        let (stop, action) = stop.request(now + S, 5 * S);
        assert_eq!((stop.deadline(), action), (Some(now + 6 * S), None));
        let (stop, _) = stop.request(now + 2 * S, 60 * S);
        assert_eq!(stop.deadline(), Some(now + 6 * S));
        let (stop, action) = stop.request(now + 2 * S, Duration::ZERO);
        assert_eq!(action, Some(Action::Kill));
        assert_eq!(stop.request(now + 3 * S, Duration::ZERO).1, None);
    }

    proptest! {
        /// Whatever is asked in whatever order, the signal to stop comes at most once and the
        /// kill is due no later than every request allows.
        #[test]
        fn every_grace_is_kept(requests in prop::collection::vec((0..50u64, 0..100u64), 1..20)) {
            let start = Instant::now();
            let mut now = start;
            let mut stop = Stop::Idle;
            let mut asked = 0;
            let mut limit = None;
            for (wait, grace) in requests {
                now += Duration::from_millis(wait);
                if matches!(stop.tick(now).1, Some(Action::Kill)) { return Ok(()); }
                let (next, action) = stop.request(now, Duration::from_millis(grace));
                asked += u32::from(action == Some(Action::Ask));
                if action == Some(Action::Kill) { return Ok(()); }
                let due = now + Duration::from_millis(grace);
                limit = Some(limit.map_or(due, |l: Instant| l.min(due)));
                prop_assert_eq!(next.deadline(), limit);
                stop = next;
            }
            prop_assert_eq!(asked, 1);
        }
    }
}
