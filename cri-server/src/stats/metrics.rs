//! Metrics in the words of the CRI.

use std::collections::HashMap;
use std::fs;

use rustix::fs::statvfs;
use skiff_cri::v1 as cri;
use skiff_stats::io::DeviceIo;
use skiff_stats::metric::{self, Filesystem, Processes, Sheet, Subject};

use super::{Reading, Stats, sweep, walk};
use crate::container::ContainerView;
use crate::daemon::Daemon;
use crate::host::mount;
use crate::pod::PodView;

/// What cAdvisor calls the container that a pod's network belongs to.
const POD: &str = "POD";

/// What metrics of all containers have in common, found out once for an answer.
pub struct Node {
    filesystem: Option<Filesystem>,
    devices: HashMap<(u32, u32), String>,
}

impl Node {
    /// Looks at the node.
    pub fn look(daemon: &Daemon) -> Self {
        let dir = daemon.images.dir();
        let filesystem = statvfs(dir).ok().map(|found| Filesystem {
            device: mount::device(dir).unwrap_or_default(),
            bytes: found.f_blocks.saturating_mul(found.f_frsize),
            inodes: found.f_files,
            inodes_free: found.f_ffree,
        });
        Self {
            filesystem,
            devices: HashMap::new(),
        }
    }

    /// The name of a block device, or its numbers when it has none any more.
    fn device(&mut self, io: &DeviceIo) -> String {
        let (major, minor) = (io.major, io.minor);
        let look = || {
            let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
            Some(format!("/dev/{}", link.file_name()?.to_str()?))
        };
        let name = self.devices.entry((major, minor));
        name.or_insert_with(|| look().unwrap_or_else(|| format!("{major}:{minor}")))
            .clone()
    }
}

impl Stats {
    /// The metrics of a pod and its containers; `None` of a pod that has ended.
    pub fn metrics(
        &self,
        daemon: &Daemon,
        pod: &PodView,
        node: &mut Node,
    ) -> Option<cri::PodSandboxMetrics> {
        if !sweep::has_usage(pod) {
            return None;
        }
        let id = &pod.facts.id;
        let latest = self.latest(id).filter(|reading| reading.detail.is_some());
        let reading = latest.unwrap_or_else(|| self.read_pod(daemon, pod, true));
        let subject = |container: &str| Subject {
            container: container.into(),
            ..subject(pod)
        };
        let mut whole = Sheet::new(subject(""), reading.usage.at);
        cgroup(&mut whole, &reading, node);
        let mut network = Sheet::new(subject(POD), reading.usage.at);
        metric::network(&mut network, reading.interfaces.as_deref().unwrap_or(&[]));
        let mut metrics = whole.finish();
        metrics.extend(network.finish());
        let containers = pod.containers.values().filter(|c| sweep::is_there(c));
        let containers = containers
            .filter_map(|container| self.container_metrics(daemon, pod, container, node))
            .collect();
        Some(cri::PodSandboxMetrics {
            pod_sandbox_id: id.to_string(),
            metrics,
            container_metrics: containers,
        })
    }

    fn container_metrics(
        &self,
        daemon: &Daemon,
        pod: &PodView,
        container: &ContainerView,
        node: &mut Node,
    ) -> Option<cri::ContainerMetrics> {
        let facts = &container.facts;
        let latest = self.latest(&facts.id).filter(|r| r.detail.is_some());
        let reading = latest.unwrap_or_else(|| self.read_container(daemon, container, true));
        if reading.usage.is_empty() {
            return None;
        }
        let subject = Subject {
            id: facts.id.to_string(),
            image: facts.image.clone(),
            container: facts.metadata().name,
            ..subject(pod)
        };
        let mut sheet = Sheet::new(subject, reading.usage.at);
        cgroup(&mut sheet, &reading, node);
        let walk = self.walked(&facts.id);
        let open = walk.as_ref().and_then(|walk| walk.open);
        let open = open.or_else(|| walk::open_files(container));
        let processes = reading.processes.zip(open).map(|(count, open)| Processes {
            count,
            files: open.files,
            sockets: open.sockets,
            files_limit: open.limit,
        });
        if let (Some(detail), Some(spec)) = (&reading.detail, &reading.spec) {
            let started_at = container.state.started_at();
            let processes = processes.as_ref();
            metric::container(
                &mut sheet,
                &reading.usage,
                detail,
                processes,
                spec,
                started_at,
            );
        }
        if let Some(filesystem) = &node.filesystem {
            let written = walk.and_then(|walk| walk.written);
            metric::filesystem(&mut sheet, written.map(|written| written.bytes), filesystem);
        }
        Some(cri::ContainerMetrics {
            container_id: facts.id.to_string(),
            metrics: sheet.finish(),
        })
    }
}

fn subject(pod: &PodView) -> Subject {
    let cri::PodSandboxMetadata {
        name, namespace, ..
    } = pod.facts.metadata();
    Subject {
        id: pod.facts.id.to_string(),
        namespace,
        pod: name,
        ..Subject::default()
    }
}

fn cgroup(sheet: &mut Sheet, reading: &Reading, node: &mut Node) {
    if let Some(detail) = &reading.detail {
        metric::cgroup(sheet, &reading.usage, detail, |io| node.device(io));
    }
}
