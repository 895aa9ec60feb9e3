//! One look at every cgroup.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use skiff_cri::v1 as cri;
use skiff_stats::metric::Spec;
use skiff_stats::{Detail, Interface, Usage, network};

use super::cgroup::Cgroup;
use super::{Reading, Stats};
use crate::clock;
use crate::container::{self, ContainerView, resources};
use crate::daemon::Daemon;
use crate::id::Id;
use crate::pod::{self, PodView};

/// What `cpu.weight` is where nobody has set it, as shares.
const USUAL_SHARES: u64 = 1024;
/// The kernel's own period of `cpu.max`, in microseconds.
const USUAL_PERIOD: u64 = 100_000;

/// Reads all there are, and forgets those that are not there any more.
pub(super) fn round(daemon: &Daemon) {
    let stats = &daemon.stats;
    let with_detail = stats.metrics_wanted();
    let mut seen: HashSet<Id> = HashSet::new();
    for pod in daemon.store.pods() {
        let view = pod.view();
        if has_usage(&view) {
            stats.read_pod(daemon, &view, with_detail);
            seen.insert(view.facts.id.clone());
        }
        for container in view.containers.values().filter(|c| is_there(c)) {
            stats.read_container(container, with_detail);
            seen.insert(container.facts.id.clone());
        }
    }
    let mut watched = stats
        .watched
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    watched.retain(|id, _| seen.contains(id));
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
    /// Reads a container's cgroup now.
    pub(super) fn read_container(
        &self,
        container: &ContainerView,
        with_detail: bool,
    ) -> Arc<Reading> {
        let facts = &container.facts;
        let mut cgroup = Cgroup::open(&facts.cgroup);
        let mut reading = self.read(cgroup.as_mut(), with_detail);
        let pids = cgroup.and_then(|mut cgroup| cgroup.processes());
        reading.processes = pids.map(|pids| pids.len() as u64);
        reading.spec = with_detail.then(|| spec(&resources::held(facts)));
        self.enter(&facts.id, reading)
    }

    /// Reads a pod's cgroup and interfaces now.
    pub(super) fn read_pod(
        &self,
        daemon: &Daemon,
        pod: &PodView,
        with_detail: bool,
    ) -> Arc<Reading> {
        let mut cgroup = Cgroup::open(&pod_cgroup(&daemon.cgroup_root, pod));
        let mut reading = self.read(cgroup.as_mut(), with_detail);
        reading.interfaces = interfaces(pod);
        self.enter(&pod.facts.id, reading)
    }

    fn read(&self, mut cgroup: Option<&mut Cgroup>, with_detail: bool) -> Reading {
        let at = clock::now();
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
            usage,
            nano_cores: None,
            processes: None,
            interfaces: None,
            detail,
            spec: None,
        }
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
fn interfaces(pod: &PodView) -> Option<Vec<Interface>> {
    pod.netns.as_ref()?;
    let shim = pod.shim.as_ref()?;
    let text = std::fs::read_to_string(format!("/proc/{}/net/dev", shim.pid)).ok()?;
    Some(network::parse(&text))
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
