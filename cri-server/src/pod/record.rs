//! What must be known of a pod after the daemon was killed.
//!
//! Beside the record, `<root>/state/pods/<id>/` holds the request as it came (`request.pb`),
//! written once before the record, and the pod's files.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::state::State;
use crate::id::Id;
use crate::layout::{Layout, POD_RECORD};
use crate::record::{self, Record, RecordError};
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
    /// Its shim.
    pub shim: ShimRecord,
    /// First process of its PID namespace, when its containers share one.
    pub init_pid: Option<i32>,
    /// Where its network namespace is bound; `None`: the host's network.
    pub netns: Option<PathBuf>,
    /// It may hold something outside its own directory: a shim, a network, cgroups.
    pub holding: bool,
    /// Its addresses, the first being the main one.
    pub ips: Vec<IpAddr>,
    /// Parent of its containers' cgroups, relative to the root of the hierarchy.
    pub cgroup_parent: PathBuf,
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
    const VERSION: u32 = 1;
}

impl PodRecord {
    /// Replaces the record on disk.
    pub fn write(&self, layout: &Layout) -> Result<(), RecordError> {
        record::write(&layout.pod(&self.id).join(POD_RECORD), self)
    }

    /// Reads the record in `dir`, which must be the pod's of that record.
    pub fn read(dir: &Path) -> Result<Self, RecordError> {
        let path = dir.join(POD_RECORD);
        let record: Self = record::read(&path)?;
        if dir
            .file_name()
            .is_some_and(|name| name == record.id.as_str())
        {
            return Ok(record);
        }
        Err(RecordError::Misplaced {
            path,
            id: record.id,
        })
    }
}
