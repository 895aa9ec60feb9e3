//! One look at every cgroup.
//!
//! What has not run has not changed: of a pod at rest three files, which stay open, are read instead of some ten of
//! it and of each of its containers, but for once in some intervals, since a kubelet changes the limits of a
//! pod by itself.
//!
//! What a kubelet evicts by must be of the moment that is told with it: it ranks the pods of a node that
//! is short of memory by their working sets, beside what they asked for. These shrink without anything
//! running, as pages age, and so the pod's memory.stat is among the three; it has the sum of its
//! containers. A container's limits are ours to change, and then it is not at rest.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use skiff_cri::v1 as cri;
use skiff_stats::metric::Spec;
use skiff_stats::{Detail, Interface, Usage, network};

use rustix::fs::CWD;

use super::cgroup::{self, Cgroup, Standing};
use super::{Reading, Stats};
use crate::clock::Moment;
use crate::container::{self, ContainerView};
use crate::daemon::Daemon;
use crate::id::Id;
use crate::pod::{self, PodView};

/// What `cpu.weight` is where nobody has set it, as shares.
const USUAL_SHARES: u64 = 1024;
/// The kernel's own period of `cpu.max`, in microseconds.
const USUAL_PERIOD: u64 = 100_000;

/// A pod at rest is read as a whole again after so many intervals.
const IDLE_INTERVALS: u32 = 6;

/// How a pod that may be at rest is looked at.
struct Look {
    now: Moment,
    /// What was read stands so long, [`IDLE_INTERVALS`].
    idle: Duration,
    /// Its interfaces are wanted.
    with_networks: bool,
}

/// Reads all there are, and forgets those that are not there any more.
pub(super) fn round(daemon: &Daemon) {
    let stats = &daemon.stats;
    let with_detail = stats.metrics.is_set();
    let idle = daemon.config.load().stats.interval.duration() * IDLE_INTERVALS;
    let mut seen: HashSet<Id> = HashSet::new();
    let with_networks = stats.networks.is_set();
    for pod in daemon.store.pods() {
        let view = pod.view();
        let mut there = view.containers.values().filter(|c| is_there(c));
        let may_rest = !with_detail && has_usage(&view) && there.all(|c| stats.has_limits_of(c));
        let look = may_rest.then(|| Look {
            now: Moment::now(),
            idle,
            with_networks,
        });
        let look = look.filter(|look| stats.pod_stands(daemon, &view, look));
        if has_usage(&view) {
            if look.is_none() {
                stats.read_pod(daemon, &view, with_detail);
            }
            seen.insert(view.facts.id.clone());
        }
        for container in view.containers.values().filter(|c| is_there(c)) {
            let stands = look
                .as_ref()
                .is_some_and(|look| stats.container_stands(container, look));
            if !stands {
                stats.read_container(daemon, container, with_detail);
            }
            seen.insert(container.facts.id.clone());
        }
    }
    let mut watched = stats
        .watched
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    watched.retain(|id, _| seen.contains(id));
    drop(watched);
    daemon.limits.retain(&seen);
}

/// Whether a pod uses anything of its own: one that has ended may have a successor in its cgroup.
pub(super) fn has_usage(pod: &PodView) -> bool {
    matches!(pod.state, pod::State::Ready | pod::State::Stopping)
}

/// Whether a container may have processes.
pub(super) fn is_there(container: &ContainerView) -> bool {
    match container.state {
        container::State::Creating | container::State::Exited { .. } => false,
        container::State::Created { .. }
        | container::State::Starting { .. }
        | container::State::Running { .. }
        | container::State::Unknown { .. } => true,
    }
}

impl Stats {
    /// Whether what was last read of a pod still stands, which is then told of this moment.
    fn pod_stands(&self, daemon: &Daemon, pod: &PodView, look: &Look) -> bool {
        let id = &pod.facts.id;
        let Some(last) = self.latest(id).filter(|last| look.is_fresh(last)) else {
            return false;
        };
        let watched = self.watch(id);
        let mut standing = watched
            .standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let files =
            standing.get_or_insert_with(|| Standing::new(pod_cgroup(&daemon.cgroup_root, pod)));
        if !last.usage.stands(files) {
            *standing = None;
            return false;
        }
        files.shrink();
        drop(standing);
        let mut reading = again(&last, look.now.at);
        reading.interfaces = interfaces_if(look.with_networks, pod);
        self.enter(id, reading, look.now.instant);
        true
    }

    /// Whether a container's limits are those that were read last, as far as we have changed them.
    fn has_limits_of(&self, container: &ContainerView) -> bool {
        let last = self.latest(&container.facts.id);
        let facts = last.and_then(|last| last.facts.clone());
        facts.is_some_and(|facts| Arc::ptr_eq(&facts, &container.facts))
    }

    /// The same of a container in a pod that is at rest.
    fn container_stands(&self, container: &ContainerView, look: &Look) -> bool {
        let id = &container.facts.id;
        let last = self.latest(id).filter(|last| look.is_fresh(last));
        let Some(last) = last.filter(|last| !last.usage.is_empty()) else {
            return false;
        };
        self.enter(id, again(&last, look.now.at), look.now.instant);
        true
    }

    /// Reads a container's cgroup now.
    pub(super) fn read_container(
        &self,
        daemon: &Daemon,
        container: &ContainerView,
        with_detail: bool,
    ) -> Arc<Reading> {
        let facts = &container.facts;
        let mut cgroup = Cgroup::open(&facts.cgroup);
        let now = Moment::now();
        let mut reading = self.read(now, cgroup.as_mut(), with_detail);
        reading.facts = Some(Arc::clone(facts));
        let pids = cgroup.and_then(|mut cgroup| cgroup.processes());
        reading.processes = pids.map(|pids| pids.len() as u64);
        reading.spec = with_detail.then(|| spec(&daemon.limits.held(facts)));
        self.enter(&facts.id, reading, now.instant)
    }

    /// Reads a pod's cgroup and interfaces now.
    pub(super) fn read_pod(
        &self,
        daemon: &Daemon,
        pod: &PodView,
        with_detail: bool,
    ) -> Arc<Reading> {
        let mut cgroup = Cgroup::open(&pod_cgroup(&daemon.cgroup_root, pod));
        let now = Moment::now();
        let mut reading = self.read(now, cgroup.as_mut(), with_detail);
        reading.interfaces = interfaces_if(with_detail || self.networks.is_set(), pod);
        self.enter(&pod.facts.id, reading, now.instant)
    }

    fn read(&self, now: Moment, mut cgroup: Option<&mut Cgroup>, with_detail: bool) -> Reading {
        let at = now.at;
        let usage = match &mut cgroup {
            Some(cgroup) => Usage::read(*cgroup, at),
            None => Usage {
                at,
                ..Usage::default()
            },
        };
        let detail = with_detail.then(|| match cgroup {
            Some(cgroup) => Detail::read(cgroup, &self.page_sizes),
            None => Detail::default(),
        });
        Reading {
            whole: now.instant,
            usage,
            facts: None,
            nano_cores: None,
            processes: None,
            interfaces: None,
            detail,
            spec: None,
        }
    }
}

impl Look {
    /// Whether what was last read of a pod at rest need not be read again yet.
    fn is_fresh(&self, last: &Reading) -> bool {
        self.now.instant.duration_since(last.whole) < self.idle
    }
}

/// The same, at another time.
fn again(last: &Reading, at: i64) -> Reading {
    let usage = Usage {
        at,
        ..last.usage.clone()
    };
    Reading {
        usage,
        ..last.clone()
    }
}

/// The cgroup of a pod as a whole: the one that its request names, else the one made for it. With
/// systemd the request names a slice, and the scope made in it has only what skiff runs there.
fn pod_cgroup(root: &Path, pod: &PodView) -> PathBuf {
    let path = root.join(&pod.cgroup_parent);
    let linux = pod.facts.config.linux.as_ref();
    let asked = linux.is_some_and(|linux| !linux.cgroup_parent.is_empty());
    let is_scope = path.extension().is_some_and(|kind| kind == "scope");
    match path.parent() {
        Some(slice) if asked && is_scope => slice.into(),
        _ => path,
    }
}

/// The interfaces in a pod's network; `None` in the host's, and without a shim to look through.
pub(super) fn interfaces(pod: &PodView) -> Option<Vec<Interface>> {
    pod.netns.as_ref()?;
    let shim = pod.shim.as_ref()?;
    let mut text = Vec::new();
    cgroup::read(CWD, &format!("/proc/{}/net/dev", shim.pid), &mut text).ok()?;
    Some(network::parse(std::str::from_utf8(&text).ok()?))
}

/// The interfaces, when somebody wants to know.
fn interfaces_if(wanted: bool, pod: &PodView) -> Option<Vec<Interface>> {
    wanted.then(|| interfaces(pod)).flatten()
}

/// The limits that metrics tell of.
fn spec(held: &cri::LinuxContainerResources) -> Spec {
    let positive = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    Spec {
        cpu_period: positive(held.cpu_period).unwrap_or(USUAL_PERIOD),
        cpu_quota: positive(held.cpu_quota),
        cpu_shares: positive(held.cpu_shares).unwrap_or(USUAL_SHARES),
    }
}
