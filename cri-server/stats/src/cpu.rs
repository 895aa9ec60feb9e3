//! `cpu.stat`.

use crate::flat::pairs;

/// Processor time of a cgroup and all below it, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuStat {
    /// All of it.
    pub usage: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// Only where the cpu controller is enabled.
    pub throttling: Option<Throttling>,
}

/// What a limit has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which it wanted to run.
    pub periods: u64,
    /// Those in which it was stopped.
    pub throttled: u64,
    /// For how long in all, in microseconds.
    pub time: u64,
}

impl CpuStat {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut usage, mut user, mut system) = (None, None, None);
        let (mut periods, mut throttled, mut time) = (None, None, None);
        for (key, value) in pairs(text) {
            match key {
                "usage_usec" => usage = Some(value),
                "user_usec" => user = Some(value),
                "system_usec" => system = Some(value),
                "nr_periods" => periods = Some(value),
                "nr_throttled" => throttled = Some(value),
                "throttled_usec" => time = Some(value),
                _ => {}
            }
        }
        let throttling = periods.zip(throttled).zip(time);
        Some(Self {
            usage: usage?,
            user: user?,
            system: system?,
            throttling: throttling.map(|((periods, throttled), time)| Throttling {
                periods,
                throttled,
                time,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_the_controllers() {
        let bare = "usage_usec 30\nuser_usec 20\nsystem_usec 10\ncore_sched.force_idle_usec 0\n";
        let mut expected = CpuStat {
            usage: 30,
            user: 20,
            system: 10,
            throttling: None,
        };
        assert_eq!(CpuStat::parse(bare), Some(expected));
        let whole =
            format!("{bare}nr_periods 4\nnr_throttled 2\nthrottled_usec 900\nnr_bursts 0\n");
        expected.throttling = Some(Throttling {
            periods: 4,
            throttled: 2,
            time: 900,
        });
        assert_eq!(CpuStat::parse(&whole), Some(expected));
        assert_eq!(CpuStat::parse("usage_usec 30\n"), None);
    }
}
