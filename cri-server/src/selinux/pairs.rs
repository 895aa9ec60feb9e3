//! Pairs of categories: no two pods of this daemon have the same, but for those that ask for it, be it
//! for one of their containers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::runtime::Spec;
use skiff_cri::v1::PodSandboxConfig;
use skiff_spec::SpecError;
use skiff_spec::selinux::{Contexts, Label, Labels, Level, Pair, pod_labels, pod_level};

use super::judged_label;
use crate::id::Id;

/// The pairs that pods and containers have, and which pods have each: one that is there several times
/// has it for itself and for containers.
#[derive(Debug, Clone, Default)]
pub struct PairsInUse(Arc<Mutex<BTreeMap<Pair, Vec<Id>>>>);

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
    pub fn again(&self, labels: Labels, id: &Id) -> PodLabels {
        let pair = labels.process.level.as_ref().and_then(Level::pair);
        PodLabels {
            labels,
            _pair: pair.map(|pair| self.hold(pair, id).0),
        }
    }

    /// The pair of a container, by the label of its files: its pod's, or one that it asks for alone.
    pub fn of_container(&self, spec: &Spec, pod: &Id) -> Option<Arc<Held>> {
        let label = spec.linux().as_ref()?.mount_label().as_ref()?;
        let level = label.parse::<Label>().ok()?.level?;
        Some(Arc::new(self.hold_asked(level.pair()?, &level, pod)))
    }

    /// A pair that a pod asks for. That another one has it, too, may be meant (they share a volume), or
    /// may not: it can have been given to a pod that asked for none.
    fn hold_asked(&self, pair: Pair, level: &Level, id: &Id) -> Held {
        let (held, is_joined) = self.hold(pair, id);
        if is_joined {
            tracing::warn!(
                pod = %id,
                %level,
                "another pod has the SELinux level that this one asks for: each may use the other's files"
            );
        }
        held
    }

    /// A pair, whoever has it; and whether others do, and this pod did not. Most containers have their
    /// pod's, and of what two pods share it is enough to be told once.
    fn hold(&self, pair: Pair, id: &Id) -> (Held, bool) {
        let mut pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let holders = pairs.entry(pair).or_default();
        let is_joined = !holders.is_empty() && !holders.contains(id);
        holders.push(id.clone());
        let held = Held {
            pair,
            pod: id.clone(),
            of: self.clone(),
        };
        (held, is_joined)
    }

    /// A pair that nobody has: the first from where the pod's id, which is random, points to.
    fn take(&self, id: &Id) -> Option<Held> {
        let mut pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = u32::from_str_radix(&id.as_str()[..8], 16).unwrap_or_default();
        let pair = (0..Pair::NUMBERS)
            .filter_map(|step| Pair::numbered(start.wrapping_add(step)))
            .find(|pair| !pairs.contains_key(pair))?;
        pairs.insert(pair, vec![id.clone()]);
        Some(Held {
            pair,
            pod: id.clone(),
            of: self.clone(),
        })
    }
}

/// A pair in use by a pod or a container.
#[derive(Debug)]
pub struct Held {
    pair: Pair,
    pod: Id,
    of: PairsInUse,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut pairs = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holders) = pairs.get_mut(&self.pair) {
            if let Some(at) = holders.iter().position(|pod| *pod == self.pod) {
                holders.swap_remove(at);
            }
            if holders.is_empty() {
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
        let again = pairs.again(labels("s0:c5,c0"), &id(1));
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
            let _labels = pairs.again(labels(level), &id(1));
            assert!(pairs.0.lock().unwrap().is_empty());
        }
    }

    fn container(level: &str) -> Spec {
        let linux = serde_json::json!({"mountLabel": format!("u:object_r:f:{level}")});
        let spec = serde_json::json!({"ociVersion": "1.2.0", "linux": linux});
        serde_json::from_value(spec).unwrap()
    }

    /// A level that only a container had asked for was given to later pods as if nobody had it.
    #[test]
    fn a_level_of_a_container_alone_is_given_to_no_pod_while_the_container_is_there() {
        let pairs = PairsInUse::default();
        let pair = Pair::new(0, 5).unwrap();
        let first = pairs.of_container(&container("s0:c0,c5"), &id(1)).unwrap();
        let second = pairs.of_container(&container("s0:c5,c0"), &id(1)).unwrap();
        drop(first);
        assert_ne!(pairs.take(&id(5)).unwrap().pair, pair);
        drop(second);
        assert_eq!(pairs.take(&id(5)).unwrap().pair, pair);
        for level in ["s0", "s0:c1"] {
            assert!(pairs.of_container(&container(level), &id(1)).is_none());
        }
        assert!(pairs.of_container(&Spec::default(), &id(1)).is_none());
        assert!(pairs.0.lock().unwrap().is_empty());
    }

    /// Each container of two pods that share a level was warned of.
    #[test]
    fn that_pods_share_a_pair_is_news_when_the_second_has_it_first() {
        let pairs = PairsInUse::default();
        let pair = Pair::new(0, 5).unwrap();
        let is_joined = |pod| {
            let (held, is_joined) = pairs.hold(pair, &id(pod));
            (is_joined, held)
        };
        let (one, other) = (is_joined(1), is_joined(2));
        assert_eq!((one.0, other.0), (false, true));
        for pod in [1, 2] {
            assert!(!is_joined(pod).0, "a container of pod {pod}");
        }
        drop(other);
        assert!(is_joined(2).0);
    }

    #[test]
    fn when_all_are_in_use_there_is_none() {
        let pairs = PairsInUse::default();
        let all = (0..Pair::NUMBERS).filter_map(Pair::numbered);
        let other = id(0);
        let all: BTreeMap<_, _> = all.map(|pair| (pair, vec![other.clone()])).collect();
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
                    0 => asked.push(pairs.again(labels(&format!("s0:c{low},c{high}")), &id(u32::from(low)))),
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
