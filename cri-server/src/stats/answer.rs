//! Stats in the words of the CRI.

use skiff_cri::v1 as cri;
use skiff_stats::network;

use super::{Stats, sweep};
use crate::container::ContainerView;
use crate::daemon::Daemon;
use crate::pod::PodView;

impl Stats {
    /// What a container uses. Of one that has ended, what it has written.
    pub fn container(&self, daemon: &Daemon, container: &ContainerView) -> cri::ContainerStats {
        let facts = &container.facts;
        let attributes = cri::ContainerAttributes {
            id: facts.id.to_string(),
            metadata: Some(facts.metadata()),
            labels: facts.config.labels.clone(),
            annotations: facts.config.annotations.clone(),
        };
        let stats = cri::ContainerStats {
            attributes: Some(attributes),
            writable_layer: self.writable_layer(daemon, container),
            ..Default::default()
        };
        if !sweep::is_there(container) {
            return stats;
        }
        let latest = self.latest(&facts.id);
        let reading = latest.unwrap_or_else(|| self.read_container(daemon, container, false));
        let usage = &reading.usage;
        cri::ContainerStats {
            cpu: usage.cpu(reading.nano_cores),
            memory: usage.memory(),
            swap: usage.swap(),
            io: usage.io(),
            ..stats
        }
    }

    /// What a pod uses, with its containers. Of one that has ended, what they have written.
    pub fn pod(&self, daemon: &Daemon, pod: &PodView) -> cri::PodSandboxStats {
        let facts = &pod.facts;
        let attributes = cri::PodSandboxAttributes {
            id: facts.id.to_string(),
            metadata: Some(facts.metadata()),
            labels: facts.config.labels.clone(),
            annotations: facts.config.annotations.clone(),
        };
        let containers = pod.containers.values();
        let containers = containers.map(|container| self.container(daemon, container));
        let mut linux = cri::LinuxPodSandboxStats {
            containers: containers.collect(),
            ..Default::default()
        };
        if sweep::has_usage(pod) {
            self.networks.ask();
            let latest = self.latest(&facts.id);
            let reading = latest.unwrap_or_else(|| self.read_pod(daemon, pod, false));
            let usage = &reading.usage;
            linux.cpu = usage.cpu(reading.nano_cores);
            linux.memory = usage.memory();
            linux.io = usage.io();
            // The last sweep may have been before anybody wanted to know.
            let interfaces = reading.interfaces.clone();
            let interfaces = interfaces.or_else(|| sweep::interfaces(pod));
            linux.network =
                interfaces.and_then(|all| network::to_cri(&all, skiff_cni::INTERFACE, usage.at));
            linux.process = Some(cri::ProcessUsage {
                timestamp: usage.at,
                process_count: Some(cri::UInt64Value {
                    value: self.processes(pod),
                }),
            });
        }
        cri::PodSandboxStats {
            attributes: Some(attributes),
            linux: Some(linux),
            windows: None,
        }
    }

    /// Processes of all containers of a pod.
    fn processes(&self, pod: &PodView) -> u64 {
        let ids = pod.containers.keys();
        ids.filter_map(|id| self.latest(id)?.processes).sum()
    }

    fn writable_layer(
        &self,
        daemon: &Daemon,
        container: &ContainerView,
    ) -> Option<cri::FilesystemUsage> {
        let walk = self.walked(&container.facts.id)?;
        let written = walk.written?;
        let mountpoint = daemon.images.dir().to_string_lossy().into_owned();
        Some(cri::FilesystemUsage {
            timestamp: walk.at,
            fs_id: Some(cri::FilesystemIdentifier { mountpoint }),
            used_bytes: Some(cri::UInt64Value {
                value: written.bytes,
            }),
            inodes_used: Some(cri::UInt64Value {
                value: written.inodes,
            }),
        })
    }
}
