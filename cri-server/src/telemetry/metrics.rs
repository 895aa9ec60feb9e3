//! What is counted.
//!
//! Everything that is counted on a hot path has its place from the start, so that counting is
//! finding the place and adding to it, without a lock; handlers come and go with the configuration, and
//! finding theirs takes a lock that nobody holds for long. Names and labels are the matter of
//! [`super::exposition`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use tonic::Code;

use super::histogram::Histogram;
use super::phase::Phase;

/// gRPC status codes are 0 to 16.
const CODES: usize = 17;

/// The daemon's counters.
#[derive(Debug)]
pub struct Metrics {
    operations: BTreeMap<&'static str, Operation>,
    phases: [Histogram; Phase::ALL.len()],
    network: [Work; NetworkOperation::ALL.len()],
    /// Image pulls.
    pub pulls: Work,
    /// Starts of pods by their handlers.
    pod_starts: RwLock<BTreeMap<String, Arc<Work>>>,
}

/// A call of the CRI.
#[derive(Debug, Default)]
pub struct Operation {
    /// How long it took, well or badly.
    pub took: Histogram,
    errors: [AtomicU64; CODES],
}

impl Operation {
    /// Counts a call that was answered so.
    pub fn answered(&self, began: Instant, code: Code) {
        self.took.observe(began.elapsed());
        if code != Code::Ok {
            self.failed(code);
        }
    }

    /// Counts an error of a call that had been answered well: its stream has ended.
    pub fn failed(&self, code: Code) {
        // A code is its number.
        if let Some(errors) = self.errors.get(code as usize) {
            errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Errors by their codes; only those that happened.
    pub fn errors(&self) -> impl Iterator<Item = (Code, u64)> {
        let errors = (0..).zip(&self.errors);
        errors
            .map(|(code, number)| (Code::from_i32(code), number.load(Ordering::Relaxed)))
            .filter(|(_, number)| *number > 0)
    }
}

/// Work that takes its time and may fail.
#[derive(Debug, Default)]
pub struct Work {
    /// How long it took when it went well.
    pub took: Histogram,
    failed: AtomicU64,
}

impl Work {
    /// Counts a piece of work that began then and has ended now.
    pub fn done<T, E>(&self, began: Instant, result: &Result<T, E>) {
        match result {
            Ok(_) => self.took.observe(began.elapsed()),
            Err(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How often it failed.
    pub fn failures(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// What the plugins of a network are asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkOperation {
    /// CNI ADD, all plugins.
    Add,
    /// CNI DEL, all plugins.
    Del,
    /// CNI CHECK, all plugins.
    Check,
}

impl NetworkOperation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Add, Self::Del, Self::Check];

    /// Its name, in the words of CNI.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
        }
    }
}

impl Metrics {
    /// Counters for the calls of these names, all at zero.
    pub fn new(operations: impl IntoIterator<Item = &'static str>) -> Self {
        let operations = operations.into_iter();
        Self {
            operations: operations
                .map(|name| (name, Operation::default()))
                .collect(),
            phases: Default::default(),
            network: Default::default(),
            pulls: Work::default(),
            pod_starts: RwLock::default(),
        }
    }

    /// The counters of a call; `None` for a name that was not there at the start.
    pub fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.get(name)
    }

    /// The counters of all calls.
    pub fn operations(&self) -> impl Iterator<Item = (&'static str, &Operation)> {
        self.operations
            .iter()
            .map(|(name, operation)| (*name, operation))
    }

    /// The durations of a phase.
    pub fn phase(&self, phase: Phase) -> &Histogram {
        &self.phases[phase as usize]
    }

    /// The counters of starts of a handler's pods.
    pub fn pod_starts(&self, handler: &str) -> Arc<Work> {
        let known = self.pod_starts.read();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(handler) {
            return Arc::clone(found);
        }
        drop(known);
        let all = self.pod_starts.write();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(handler.to_owned()).or_default())
    }

    /// The same for all handlers that have had a pod.
    pub fn all_pod_starts(&self) -> BTreeMap<String, Arc<Work>> {
        let all = self.pod_starts.read();
        all.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counters of what plugins do.
    pub fn network(&self, operation: NetworkOperation) -> &Work {
        &self.network[operation as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_code() {
        let metrics = Metrics::new(["Version", "Status"]);
        let began = Instant::now();
        let version = metrics.operation("Version").unwrap();
        for code in [
            Code::Ok,
            Code::NotFound,
            Code::Unauthenticated,
            Code::NotFound,
        ] {
            version.answered(began, code);
        }
        assert_eq!(version.took.count(), 4);
        let errors: Vec<_> = version.errors().collect();
        assert_eq!(errors, [(Code::NotFound, 2), (Code::Unauthenticated, 1)]);
        assert_eq!(metrics.operation("Status").unwrap().took.count(), 0);
        assert!(metrics.operation("status").is_none());
    }

    #[test]
    fn every_handler_has_counters_of_its_own() {
        let metrics = Metrics::new([]);
        metrics
            .pod_starts("a")
            .done(Instant::now(), &Ok::<_, ()>(()));
        metrics
            .pod_starts("a")
            .done(Instant::now(), &Err::<(), _>(()));
        metrics
            .pod_starts("b")
            .done(Instant::now(), &Ok::<_, ()>(()));
        let all = metrics.all_pod_starts();
        let counts = all
            .iter()
            .map(|(name, work)| (&**name, work.took.count(), work.failures()));
        assert_eq!(counts.collect::<Vec<_>>(), [("a", 1, 1), ("b", 1, 0)]);
    }

    #[test]
    fn every_phase_has_counters_of_its_own() {
        let metrics = Metrics::new([]);
        for phase in Phase::ALL {
            assert_eq!(metrics.phase(phase).count(), 0, "{}", phase.name());
            metrics
                .phase(phase)
                .observe(std::time::Duration::from_micros(1));
        }
        for operation in NetworkOperation::ALL {
            let work = metrics.network(operation);
            work.done(Instant::now(), &Err::<(), ()>(()));
            assert_eq!((work.failures(), work.took.count()), (1, 0));
        }
    }
}
