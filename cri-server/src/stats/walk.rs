//! What takes long to find out of a container: how much it has written, and what it has open.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use skiff_image as image;
use skiff_stats::Usage;

use super::cgroup::Cgroup;
use super::open_files::OpenFiles;
use super::{Reading, Stats, sweep};
use crate::clock;
use crate::container::ContainerView;
use crate::daemon::Daemon;
use crate::id::Id;

/// After each walk the thread rests so many times as long as the walk took: it never takes more
/// than a fiftieth of a processor, whatever containers write.
const REST: u32 = 49;
/// Rests shorter than this are saved up.
const SHORTEST_REST: Duration = Duration::from_millis(20);
/// A container that has not run since it was walked cannot have changed anything. Others can in it,
/// through /proc, so it is walked again after so many intervals.
const IDLE_INTERVALS: u32 = 10;

/// What tells that a container has run: processor time and page faults. A kernel whose clock is
/// coarse counts nothing for a short-lived process, which has faults all the same.
type Activity = (Option<u64>, Option<u64>);

fn activity(reading: &Reading) -> Activity {
    let Usage { cpu, memory, .. } = &reading.usage;
    (
        cpu.map(|cpu| cpu.usage),
        memory.map(|memory| memory.stat.faults),
    )
}

/// What was found.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    /// Nanoseconds since the epoch.
    pub(super) at: i64,
    /// What it has written; `None` when that could not be found out.
    pub(super) written: Option<image::Usage>,
    /// What its processes have open; found out while metrics are wanted.
    pub(super) open: Option<OpenFiles>,
    since: Instant,
    /// What it had done by then; `None` when it had no processes.
    activity: Option<Activity>,
}

impl Walk {
    /// Whether it is time for another one, of a container that has done so much.
    fn is_over(&self, activity: Option<Activity>, idle: Duration, with_open: bool) -> bool {
        activity != self.activity
            || self.since.elapsed() >= idle
            || (with_open && self.open.is_none() && activity.is_some())
    }
}

/// Walks all containers that are due, and forgets those that are not there any more.
pub(super) fn round(daemon: &Daemon) {
    let stats = &daemon.stats;
    let idle = daemon.config.load().stats.interval.duration() * IDLE_INTERVALS;
    let with_open = stats.metrics.is_set();
    let mut seen: HashSet<Id> = HashSet::new();
    let mut owed = Duration::ZERO;
    for pod in daemon.store.pods() {
        for container in pod.view().containers.values() {
            let id = &container.facts.id;
            seen.insert(id.clone());
            let latest = stats.latest(id).filter(|_| sweep::is_there(container));
            let activity = latest.map(|reading| activity(&reading));
            if stats
                .walked(id)
                .is_some_and(|walk| !walk.is_over(activity, idle, with_open))
            {
                continue;
            }
            let begin = Instant::now();
            stats.walk(daemon, container, activity, with_open);
            owed += begin.elapsed() * REST;
            if owed >= SHORTEST_REST {
                thread::sleep(owed);
                owed = Duration::ZERO;
            }
        }
    }
    let mut walks = stats.walks.write().unwrap_or_else(PoisonError::into_inner);
    walks.retain(|id, _| seen.contains(id));
}

impl Stats {
    /// The last walk of a container.
    pub(super) fn walked(&self, id: &Id) -> Option<Walk> {
        let walks = self.walks.read().unwrap_or_else(PoisonError::into_inner);
        walks.get(id).cloned()
    }

    fn walk(
        &self,
        daemon: &Daemon,
        container: &ContainerView,
        activity: Option<Activity>,
        with_open: bool,
    ) {
        let id = &container.facts.id;
        let since = Instant::now();
        let written = daemon.images.written(id.as_str()).unwrap_or_else(|error| {
            let error = crate::telemetry::chain(&error);
            tracing::warn!(container = %id, error, "what it has written cannot be measured");
            None
        });
        let walk = Walk {
            at: clock::now(),
            written,
            open: with_open.then(|| open_files(container)).flatten(),
            since,
            activity,
        };
        let mut walks = self.walks.write().unwrap_or_else(PoisonError::into_inner);
        walks.insert(id.clone(), walk);
    }
}

/// Counts what a container's processes have open; `None` when it has none.
pub(super) fn open_files(container: &ContainerView) -> Option<OpenFiles> {
    let first = container.state.process()?.pid;
    let pids = Cgroup::open(&container.facts.cgroup)?.processes()?;
    Some(OpenFiles::count(&pids, first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_have_changed_is_walked_again() {
        let hour = Duration::from_secs(3600);
        let mut walk = Walk {
            at: 1,
            written: None,
            open: None,
            since: Instant::now(),
            activity: Some((Some(7), Some(70))),
        };
        let same = walk.activity;
        assert!(!walk.is_over(same, hour, false));
        let ran = Some((Some(8), Some(70)));
        assert!(walk.is_over(ran, hour, false), "it ran");
        let ran = Some((Some(7), Some(71)));
        assert!(walk.is_over(ran, hour, false), "it ran, if briefly");
        assert!(walk.is_over(None, hour, false), "it has ended");
        assert!(walk.is_over(same, Duration::ZERO, false), "long ago");
        assert!(walk.is_over(same, hour, true), "metrics are wanted now");
        walk.open = Some(OpenFiles::default());
        assert!(!walk.is_over(same, hour, true));
    }
}
