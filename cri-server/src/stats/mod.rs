//! What pods and containers use: collected in the background, answered from memory.
//!
//! One thread reads the files of every cgroup once in an interval ([`sweep`]), another walks what
//! takes long: the files that containers have written, and the ones their processes have open
//! ([`walk`]), at low priority. Whoever asks wakes them, so that the next answer is newer,
//! and is answered with what there is; only what has never been looked at, because it is younger than
//! the last sweep, is read on the spot.
//!
//! Map: [`cgroup`] and [`open_files`] read the kernel's files, which `skiff_stats` understands;
//! [`answer`] and [`metrics`] word the answers.
//!
//! What must hold: the daemon enters no namespace (a pod's shim lives in its network, and its /proc
//! entry shows that); nobody waits for a thread here; what nobody asks for is not read ([`wanted`]):
//! metrics and interfaces have their own parts of a reading.

mod answer;
mod cgroup;
pub mod metrics;
mod open_files;
mod sweep;
mod walk;
mod wanted;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use skiff_stats::metric::Spec;
use skiff_stats::{Detail, Interface, Rate, Usage};

use crate::container::view::Facts;
use crate::daemon::Daemon;
use crate::id::Id;
use cgroup::Standing;
use walk::Walk;
use wanted::Wanted;

/// The least time between two rounds of a thread, however often it is woken.
const PAUSE: Duration = Duration::from_millis(500);
/// How nice the walking thread is. The other one has little to do, but has to come to it on a node
/// that is busy: that is when the figures count.
const NICE: i32 = 10;

/// All that is known.
pub struct Stats {
    /// The times of samples are counted from here.
    began: Instant,
    watched: RwLock<HashMap<Id, Arc<Watched>>>,
    walks: RwLock<HashMap<Id, Walk>>,
    /// Details, for metrics.
    metrics: Wanted,
    /// Interfaces of pods, for their stats: a kubelet that has them from cAdvisor asks for those of
    /// containers alone.
    networks: Wanted,
    threads: OnceLock<[Thread; 2]>,
    /// Sizes of the host's huge pages, as cgroup files are named by.
    page_sizes: Vec<String>,
}

/// A cgroup, of a pod or a container.
#[derive(Default)]
struct Watched {
    rate: Mutex<Rate>,
    /// Of a pod at rest.
    standing: Mutex<Option<Standing>>,
    latest: ArcSwapOption<Reading>,
}

/// What was read of one at one time.
#[derive(Debug, Clone)]
struct Reading {
    /// When all of it was read; since then it has only been looked whether it still stands.
    whole: Instant,
    usage: Usage,
    /// Of a container: what it was then; a change of limits makes others.
    facts: Option<Arc<Facts>>,
    nano_cores: Option<u64>,
    /// Of a container.
    processes: Option<u64>,
    /// Of a pod with a network of its own, while they or metrics are wanted.
    interfaces: Option<Vec<Interface>>,
    /// While metrics are wanted.
    detail: Option<Detail>,
    /// While metrics are wanted, of a container.
    spec: Option<Spec>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            watched: RwLock::default(),
            walks: RwLock::default(),
            metrics: Wanted::new(),
            networks: Wanted::new(),
            threads: OnceLock::new(),
            page_sizes: cgroup::huge_page_sizes(),
        }
    }
}

impl Stats {
    /// Starts the threads for a daemon that has these stats. They end with it.
    pub fn start(daemon: &Arc<Daemon>) -> io::Result<()> {
        let spawn = |name: &str, nice: i32, round: fn(&Daemon)| {
            let daemon = Arc::downgrade(daemon);
            let thread = thread::Builder::new().name(name.into());
            let handle = thread.spawn(move || run(&daemon, nice, round))?;
            Ok::<_, io::Error>(handle.thread().clone())
        };
        let threads = [
            spawn("sweep", 0, sweep::round)?,
            spawn("walk", NICE, walk::round)?,
        ];
        // They are started once.
        let _ = daemon.stats.threads.set(threads);
        Ok(())
    }

    /// Somebody asks: what comes next should be newer.
    pub fn wake(&self) {
        for thread in self.threads.get().into_iter().flatten() {
            thread.unpark();
        }
    }

    /// Somebody asks for metrics: they are collected from now on, for a while.
    pub fn want_metrics(&self) {
        self.metrics.ask();
    }

    /// The last reading of a pod or a container.
    fn latest(&self, id: &Id) -> Option<Arc<Reading>> {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        watched.get(id)?.latest.load_full()
    }

    /// Enters a reading of this moment, whose processor time makes a rate with the one before.
    fn enter(&self, id: &Id, mut reading: Reading, now: Instant) -> Arc<Reading> {
        let watched = self.watch(id);
        if let Some(cpu) = reading.usage.cpu {
            let mut rate = watched.rate.lock().unwrap_or_else(PoisonError::into_inner);
            reading.nano_cores = rate.sample(now.duration_since(self.began), cpu.usage);
        }
        let reading = Arc::new(reading);
        watched.latest.store(Some(Arc::clone(&reading)));
        reading
    }

    fn watch(&self, id: &Id) -> Arc<Watched> {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = watched.get(id) {
            return Arc::clone(found);
        }
        drop(watched);
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(watched.entry(id.clone()).or_default())
    }
}

/// The life of a thread.
fn run(daemon: &Weak<Daemon>, nice: i32, round: fn(&Daemon)) {
    // Of this thread alone (nice(2), "C library/kernel differences"), and on top of what the daemon
    // was started with.
    if let Err(error) = rustix::process::nice(nice) {
        tracing::warn!(%error, "stats are collected at the usual priority");
    }
    while let Some(daemon) = daemon.upgrade() {
        let interval = daemon.config.load().stats.interval.duration();
        round(&daemon);
        drop(daemon);
        thread::sleep(PAUSE);
        thread::park_timeout(interval.saturating_sub(PAUSE));
    }
}
