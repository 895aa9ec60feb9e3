//! Pairs of categories: no two pods of this daemon have the same, but for those that ask for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use skiff_cri::v1::PodSandboxConfig;
use skiff_spec::SpecError;
use skiff_spec::selinux::{Contexts, Labels, Level, Pair, pod_labels, pod_level};

use super::judged_label;
use crate::id::Id;

/// The pairs that pods have, and how many have each.
#[derive(Debug, Clone, Default)]
pub struct PairsInUse(Arc<Mutex<BTreeMap<Pair, usize>>>);

/// A pod's labels. Its pair is in use until this is dropped.
#[derive(Debug)]
pub struct PodLabels {
    /// The labels.
    pub labels: Labels,
    _pair: Option<Held>,
}

impl PairsInUse {
    /// Labels a new pod as it asks for, with a level of its own unless it names one.
    pub fn label(
        &self,
        config: &PodSandboxConfig,
        contexts: &Contexts,
        id: &Id,
    ) -> Result<PodLabels, SpecError> {
        let asked = pod_level(config)?;
        let (own, pair) = match (&asked, &contexts.process.level) {
            (Some(level), _) => (
                None,
                level.pair().map(|pair| self.hold_asked(pair, level, id)),
            ),
            (None, None) => (None, None),
            (None, Some(level)) => {
                let held = self.take(id).ok_or_else(|| {
                    let reason = "every pair of categories is in use by another pod";
                    SpecError::unsupported("linux.security_context.selinux_options.level", reason)
                })?;
                let level = Level::of_pair(level.sensitivity(), held.pair);
                (Some(level), Some(held))
            }
        };
        let Labels { process, files } = pod_labels(config, contexts, own)?;
        Ok(PodLabels {
            labels: Labels {
                process: judged_label(&process)?,
                files: judged_label(&files)?,
            },
            _pair: pair,
        })
    }

    /// The labels of a pod that has them already.
    pub fn again(&self, labels: Labels) -> PodLabels {
        let pair = labels.process.level.as_ref().and_then(Level::pair);
        PodLabels {
            labels,
            _pair: pair.map(|pair| self.hold(pair)),
        }
    }

    /// A pair that a pod asks for. That another one has it, too, may be meant (they share a volume), or
    /// may not: it can have been given to a pod that asked for none.
    fn hold_asked(&self, pair: Pair, level: &Level, id: &Id) -> Held {
        let held = self.hold(pair);
        let holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.get(&pair).is_some_and(|number| *number > 1) {
            tracing::warn!(
                pod = %id,
                %level,
                "another pod has the SELinux level that this one asks for: each may use the other's files"
            );
        }
        drop(holders);
        held
    }

    /// A pair, whoever has it.
    fn hold(&self, pair: Pair) -> Held {
        let mut pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *pairs.entry(pair).or_insert(0) += 1;
        Held {
            pair,
            of: self.clone(),
        }
    }

    /// A pair that nobody has: the first from where the pod's id, which is random, points to.
    fn take(&self, id: &Id) -> Option<Held> {
        let mut pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = u32::from_str_radix(&id.as_str()[..8], 16).unwrap_or_default();
        let pair = (0..Pair::NUMBERS)
            .filter_map(|step| Pair::numbered(start.wrapping_add(step)))
            .find(|pair| !pairs.contains_key(pair))?;
        pairs.insert(pair, 1);
        Some(Held {
            pair,
            of: self.clone(),
        })
    }
}

/// A pair in use.
#[derive(Debug)]
struct Held {
    pair: Pair,
    of: PairsInUse,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut pairs = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = pairs.get_mut(&self.pair) {
            *times -= 1;
            if *times == 0 {
                pairs.remove(&self.pair);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(level: &str) -> Labels {
        Labels {
            process: format!("u:r:t:{level}").parse().unwrap(),
            files: format!("u:object_r:f:{level}").parse().unwrap(),
        }
    }

    fn id(number: u32) -> Id {
        Id::parse(&format!("{number:08x}{}", "0".repeat(56))).unwrap()
    }

    #[test]
    fn a_pair_is_free_when_the_last_pod_that_has_it_is_gone() {
        let pairs = PairsInUse::default();
        let taken = pairs.take(&id(5)).unwrap();
        let expected = Pair::new(0, 5).unwrap();
        assert_eq!(taken.pair, expected);
        let again = pairs.again(labels("s0:c5,c0"));
        drop(taken);
        assert_ne!(pairs.take(&id(5)).unwrap().pair, expected);
        drop(again);
        assert_eq!(pairs.take(&id(5)).unwrap().pair, expected);
        assert!(pairs.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_level_that_is_no_pair_holds_none() {
        let pairs = PairsInUse::default();
        for level in ["s0", "s0:c1", "s0:c1,c2,c3"] {
            let _labels = pairs.again(labels(level));
            assert!(pairs.0.lock().unwrap().is_empty());
        }
    }

    #[test]
    fn when_all_are_in_use_there_is_none() {
        let pairs = PairsInUse::default();
        let all = (0..Pair::NUMBERS).filter_map(Pair::numbered);
        let all: BTreeMap<_, _> = all.map(|pair| (pair, 1)).collect();
        *pairs.0.lock().unwrap() = all;
        assert!(pairs.take(&id(0)).is_none());
        let last = Pair::new(1022, 1023).unwrap();
        pairs.0.lock().unwrap().remove(&last);
        assert_eq!(pairs.take(&id(0)).unwrap().pair, last);
    }

    proptest! {
        /// Pods come and go, some with a level that they ask for: no taken pair is anybody else's.
        #[test]
        fn no_pod_is_given_a_pair_that_another_has(
            steps in prop::collection::vec((0u32..4, 0u16..4, 4u16..8), 0..200)
        ) {
            let pairs = PairsInUse::default();
            let mut taken: Vec<Held> = Vec::new();
            let mut asked: Vec<PodLabels> = Vec::new();
            for (what, low, high) in steps {
                match what {
                    0 => asked.push(pairs.again(labels(&format!("s0:c{low},c{high}")))),
                    1 => {
                        let held = pairs.take(&id(u32::from(low) * 1024 + u32::from(high))).unwrap();
                        prop_assert!(taken.iter().all(|other| other.pair != held.pair));
                        let of = |pod: &PodLabels| pod.labels.process.level.as_ref().unwrap().pair();
                        prop_assert!(asked.iter().all(|other| of(other) != Some(held.pair)));
                        taken.push(held);
                    }
                    2 => drop((!taken.is_empty()).then(|| taken.swap_remove(usize::from(low) % taken.len()))),
                    _ => drop((!asked.is_empty()).then(|| asked.swap_remove(usize::from(low) % asked.len()))),
                }
            }
        }
    }
}
