//! What must be known of a container after the daemon was killed.
//!
//! The record is `<root>/state/containers/<id>.json`; its birth is the request as it came and the
//! specification made of it. Beside it is the exit record of the shim, `<id>.exit`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use skiff_cri::v1 as cri;
use skiff_shim_proto::record::ExitRecord;

use super::exit::Exit;
use super::state::State;
use crate::id::Id;
use crate::layout::{Layout, recorded};
use crate::record::{self, Record, RecordError, Request};

/// A container on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The boot that its processes belong to.
    pub boot_id: String,
    /// Container id.
    pub id: Id,
    /// Its pod.
    pub pod: Id,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Id of its image, `sha256:...`.
    pub image_id: String,
    /// Name of its image as the user knows it.
    pub image: String,
    /// Ids of the images of its image volumes, by their paths in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub image_volumes: BTreeMap<PathBuf, String>,
    /// Its cgroup directory.
    pub cgroup: PathBuf,
    /// Its log.
    pub log_path: Option<PathBuf>,
    /// Who its first process runs as.
    pub user: UserRecord,
    /// Number of the signal that asks it to stop.
    pub stop_signal: i32,
    /// Its limits, once they have been changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Request<cri::LinuxContainerResources>>,
    /// Where it is in its life. An exit that the shim has recorded is not repeated here.
    pub state: State,
}

/// Who a container runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
}

/// The end of a container as its shim recorded it; `None` when there is no such record, or none
/// that can be read.
pub fn read_exit(path: &Path) -> Option<Exit> {
    let json = std::fs::read(path).ok()?;
    match serde_json::from_slice::<ExitRecord>(&json) {
        Ok(record) => Some(record.into()),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "an exit record cannot be read");
            None
        }
    }
}

/// What a container came from.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerBirth {
    /// The request.
    pub request: Request<cri::ContainerConfig>,
    /// The runtime-spec configuration made of it.
    pub spec: Spec,
}

impl Record for ContainerRecord {
    type Birth = ContainerBirth;
    const VERSION: u32 = 1;
}

impl ContainerRecord {
    /// Makes the record on disk.
    pub fn create(&self, layout: &Layout, birth: &ContainerBirth) -> Result<(), RecordError> {
        record::create(&layout.container(&self.id), birth, self)
    }

    /// Changes the record on disk.
    pub fn write(&self, layout: &Layout) -> Result<(), RecordError> {
        record::append(&layout.container(&self.id), self)
    }

    /// Reads the record at `path`, which must be the container's of that name, with what it came
    /// from.
    pub fn read(path: &Path) -> Result<(ContainerBirth, Self), RecordError> {
        let (birth, record) = record::read::<Self>(path)?;
        if recorded(path).as_ref() == Some(&record.id) {
            return Ok((birth, record));
        }
        Err(RecordError::Misplaced {
            path: path.into(),
            id: record.id,
        })
    }
}
