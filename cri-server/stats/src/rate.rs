//! How many cores a cgroup uses, from how long it has run at two times.

use std::time::Duration;

/// Two samples closer than this say more of the moments they were taken at than of the cgroup.
const WINDOW: Duration = Duration::from_millis(500);

/// What is remembered from sample to sample.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    /// When the window began, and the microseconds used until then.
    base: Option<(Duration, u64)>,
    /// Over the window before.
    nano_cores: Option<u64>,
}

impl Rate {
    /// Takes a sample: microseconds of processor time used until `now`, by a clock that nobody sets.
    /// One that comes late, after a newer one, changes nothing. Says how many billionths of a core
    /// are in use; `None` until two samples are far enough apart.
    pub fn sample(&mut self, now: Duration, usage: u64) -> Option<u64> {
        let window = match self.base {
            Some((then, before)) if usage >= before => now
                .checked_sub(then)
                .filter(|window| *window >= WINDOW)
                .map(|window| (window, usage - before)),
            // Usage never falls in the life of a cgroup: this is another one.
            _ => {
                *self = Self {
                    base: Some((now, usage)),
                    nano_cores: None,
                };
                return None;
            }
        };
        if let Some((window, used)) = window {
            let nano_cores = u128::from(used) * 1_000_000_000_000 / window.as_nanos();
            self.nano_cores = u64::try_from(nano_cores).ok();
            self.base = Some((now, usage));
        }
        self.nano_cores
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn half_a_core() {
        let mut rate = Rate::default();
        assert_eq!(rate.sample(at(1000), 40_000), None);
        assert_eq!(rate.sample(at(3000), 1_040_000), Some(500_000_000));
        assert_eq!(rate.sample(at(4000), 1_040_000), Some(0));
    }

    #[test]
    fn samples_close_together_share_a_window() {
        let mut rate = Rate::default();
        rate.sample(at(0), 0);
        assert_eq!(rate.sample(at(1), 1000), None);
        assert_eq!(rate.sample(at(1000), 1_000_000), Some(1_000_000_000));
        assert_eq!(rate.sample(at(1001), 9_000_000), Some(1_000_000_000));
        assert_eq!(rate.sample(at(2000), 1_000_000), Some(0));
    }

    #[test]
    fn another_cgroup_begins_anew() {
        let mut rate = Rate::default();
        rate.sample(at(0), 900);
        assert_eq!(rate.sample(at(1000), 800), None);
        assert_eq!(rate.sample(at(2000), 800), Some(0));
    }

    proptest! {
        /// However often it is looked at, what is told over all windows is what was used.
        #[test]
        fn windows_add_up(steps in prop::collection::vec((1u64..3000, 0u64..10_000_000), 1..50)) {
            let mut rate = Rate::default();
            rate.sample(Duration::ZERO, 0);
            let (mut now, mut usage) = (0, 0);
            let (mut told, mut from) = (0u128, (0, 0));
            for (ms, used) in steps {
                now += ms;
                usage += used;
                let nano_cores = rate.sample(at(now), usage);
                if now - from.0 >= 500 {
                    let window = u128::from(now - from.0);
                    told += u128::from(nano_cores.unwrap()) * window;
                    from = (now, usage);
                }
            }
            let expected = u128::from(from.1) * 1_000_000;
            prop_assert!(told <= expected && expected - told <= u128::from(now));
        }
    }
}
