//! Processor time, and which processors and memory nodes.

use super::{Write, not_in_v2};
use crate::Error;
use crate::oci_spec::runtime::LinuxCpu;

pub(super) fn cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) -> Result<(), Error> {
    let realtime = cpu.realtime_runtime().unwrap_or(0) != 0;
    if realtime || cpu.realtime_period().unwrap_or(0) != 0 {
        return Err(not_in_v2("cpu.realtimeRuntime"));
    }
    if let Some(idle) = cpu.idle() {
        writes.push(Write::new("cpu.idle", idle));
    }
    // An idle cgroup has no weight: the kernel refuses one.
    let shares = cpu.shares().filter(|_| cpu.idle() != Some(1));
    if let Some(weight) = shares.and_then(weight_of_shares) {
        writes.push(Write::new("cpu.weight", weight));
    }
    let period = cpu.period().filter(|period| *period != 0);
    let quota = match cpu.quota() {
        Some(quota @ 1..) => Some(quota.to_string()),
        Some(..0) => Some("max".to_owned()),
        // Zero is how callers spell "not set"; a period alone only has a meaning for the kernel
        // next to a quota, and unlimited is where every cgroup starts.
        Some(0) | None => None,
    };
    if let Some(quota) = quota {
        let period = period
            .map(|period| format!(" {period}"))
            .unwrap_or_default();
        writes.push(Write::new("cpu.max", quota + &period));
    }
    if let Some(burst) = cpu.burst() {
        writes.push(Write::new("cpu.max.burst", burst));
    }
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            writes.push(Write::new(file, list));
        }
    }
    Ok(())
}

/// `cpu.shares` (2 to 262144, by default 1024) as `cpu.weight` (1 to 10000, by default 100): 10 to
/// the power of a quadratic function of the binary logarithm, such that least, default and most
/// meet.
///
/// The conversion that Kubernetes and the OCI runtimes agreed on in 2025 (kubernetes issue 131216,
/// opencontainers/cgroups pull request 20; in runc since 1.3.2, in crun since 1.23), in place of a
/// straight line, by which the default of 1024 shares became a weight of 39.
fn weight_of_shares(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1..=2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            Some(10f64.powf(exponent).ceil() as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What runc 1.3.2 writes for these.
    #[test]
    fn weights_are_those_of_other_runtimes() {
        for (shares, weight) in [
            (2, 1),
            (102, 17),
            (512, 59),
            (1024, 100),
            (2000, 170),
            (262_144, 10_000),
        ] {
            assert_eq!(weight_of_shares(shares), Some(weight), "{shares}");
        }
        assert_eq!(weight_of_shares(0), None);
    }

    proptest! {
        #[test]
        fn weights_grow_with_shares_and_stay_in_range(a in 1u64..400_000, b in 1u64..400_000) {
            let (low, high) = (weight_of_shares(a.min(b)).unwrap(), weight_of_shares(a.max(b)).unwrap());
            prop_assert!(low <= high && (1..=10_000).contains(&low) && high <= 10_000);
        }
    }
}
