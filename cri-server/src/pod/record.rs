//! What must be known of a pod after the daemon was killed.
//!
//! The record is `<root>/state/pods/<id>.json`; its birth is the request as it came.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skiff_cri::v1 as cri;
use skiff_shim_proto::message::ExternalRuntime;
use skiff_spec::selinux::Labels;

use super::state::{Denied, Event, State, step};
use crate::id::Id;
use crate::layout::{Layout, recorded};
use crate::record::{self, Record, RecordError, Request};
use crate::shim::process::ProcessId;

/// A pod on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodRecord {
    /// The boot that its processes belong to.
    pub boot_id: String,
    /// Pod id.
    pub id: Id,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// The runtime handler of the request.
    pub runtime_handler: String,
    /// The other runtime that its containers are made by, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalRuntime>,
    /// Its shim.
    pub shim: ShimRecord,
    /// First process of its PID namespace, when its containers share one or its scope needs it.
    pub init_pid: Option<i32>,
    /// Where its network namespace is bound; `None`: the host's network.
    pub netns: Option<PathBuf>,
    /// It may hold something outside its own directory: a shim, a network, cgroups.
    pub holding: bool,
    /// Its addresses, the first being the main one.
    pub ips: Vec<IpAddr>,
    /// Parent of its containers' cgroups, relative to the root of the hierarchy.
    pub cgroup_parent: PathBuf,
    /// Its SELinux labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Where it is in its life.
    pub state: State,
}

/// A pod's shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimRecord {
    /// Name of its run directory.
    pub id: String,
    /// Its process.
    pub process: ProcessId,
}

impl Record for PodRecord {
    type Birth = Request<cri::PodSandboxConfig>;
    const VERSION: u32 = 1;
}

impl PodRecord {
    /// Changes the state, as the pod's state machine has it. On error it stays as it is.
    pub fn step(&mut self, event: Event) -> Result<(), Denied> {
        self.state = step(self.state, event)?;
        Ok(())
    }

    /// Makes the record on disk.
    pub fn create(
        &self,
        layout: &Layout,
        request: &cri::PodSandboxConfig,
    ) -> Result<(), RecordError> {
        let birth = Request(request.clone());
        record::create(&layout.pod(&self.id), &birth, self)
    }

    /// Changes the record on disk.
    pub fn write(&self, layout: &Layout) -> Result<(), RecordError> {
        record::append(&layout.pod(&self.id), self)
    }

    /// Reads the record at `path`, which must be the pod's of that name, with the request it
    /// came from.
    pub fn read(path: &Path) -> Result<(cri::PodSandboxConfig, Self), RecordError> {
        let (Request(request), record) = record::read::<Self>(path)?;
        if recorded(path).as_ref() == Some(&record.id) {
            return Ok((request, record));
        }
        Err(RecordError::Misplaced {
            path: path.into(),
            id: record.id,
        })
    }
}
