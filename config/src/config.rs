//! The whole file: its sections, and the keys outside of any.

use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::check::absolute;
use crate::endpoint::Endpoint;
use crate::section::{
    Cdi, Container, Image, Log, Metrics, Network, Runtime, Stats, Streaming, Tracing,
};

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the kubelet connects.
    pub listen: Endpoint,
    /// What outlives a boot: images, snapshots, records.
    #[serde(deserialize_with = "absolute")]
    pub root: PathBuf,
    /// What a boot clears: sockets and run directories.
    #[serde(deserialize_with = "absolute")]
    pub state: PathBuf,
    /// Who manages cgroups; told to the kubelet, which follows it.
    pub cgroup_driver: CgroupDriver,
    /// The daemon's own log.
    pub log: Log,
    /// The daemon's counters.
    pub metrics: Metrics,
    /// Traces of what the daemon does.
    pub tracing: Tracing,
    /// How pods are run.
    pub runtime: Runtime,
    /// What containers start from.
    pub container: Container,
    /// CNI.
    pub network: Network,
    /// Devices that vendors describe in files.
    pub cdi: Cdi,
    /// Image pulls.
    pub image: Image,
    /// Exec, attach and port forwarding.
    pub streaming: Streaming,
    /// What pods and containers use.
    pub stats: Stats,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Endpoint::default(),
            root: "/var/lib/skiff".into(),
            state: "/run/skiff".into(),
            cgroup_driver: CgroupDriver::default(),
            log: Log::default(),
            metrics: Metrics::default(),
            tracing: Tracing::default(),
            runtime: Runtime::default(),
            container: Container::default(),
            network: Network::default(),
            cdi: Cdi::default(),
            image: Image::default(),
            streaming: Streaming::default(),
            stats: Stats::default(),
        }
    }
}

/// Who manages cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// systemd where it is PID 1, cgroupfs elsewhere.
    #[default]
    Auto,
    /// skiff asks systemd for a scope for each pod.
    Systemd,
    /// skiff makes directories below /sys/fs/cgroup itself.
    Cgroupfs,
}

impl<'de> Deserialize<'de> for CgroupDriver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "auto" => Ok(Self::Auto),
            "systemd" => Ok(Self::Systemd),
            "cgroupfs" => Ok(Self::Cgroupfs),
            other => Err(D::Error::custom(format!(
                "{other:?} is none of \"auto\", \"systemd\" and \"cgroupfs\""
            ))),
        }
    }
}
