//! `cpu.shares` of the CRI and `cpu.weight` of cgroup v2.

/// Most shares (kernel, `MAX_SHARES` of cgroup v1).
const MOST_SHARES: u64 = 262_144;

/// Shares (2 to 262144, by default 1024) as weight (1 to 10000, by default 100), as the runtime
/// converts them: 10 to the power of a quadratic function of the binary logarithm (kubernetes issue
/// 131216, opencontainers/cgroups pull request 20; runc since 1.3.2, crun since 1.23).
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        MOST_SHARES.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// The most shares of which a weight is made, so that the default is the default; at least 2.
pub(crate) fn shares_of_weight(weight: u64) -> u64 {
    let (mut low, mut high) = (2, MOST_SHARES);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if weight_of_shares(middle) <= weight {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
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
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        for (weight, shares) in [(0, 2), (1, 2), (100, 1024), (10_000, 262_144)] {
            assert_eq!(shares_of_weight(weight), shares, "{weight}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same_weight(shares in 2u64..400_000) {
            let weight = weight_of_shares(shares);
            let back = shares_of_weight(weight);
            prop_assert_eq!(weight_of_shares(back), weight);
            prop_assert!(back >= shares.min(MOST_SHARES));
        }
    }
}
