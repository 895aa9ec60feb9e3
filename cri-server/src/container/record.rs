//! What must be known of a container after the daemon was killed.
//!
//! Beside the record, `<root>/state/containers/<id>/` holds the request as it came (`request.pb`),
//! the specification made of it (`config.json`), both written once before the record, and the
//! exit record of the shim (`exit.json`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skiff_shim_proto::record::ExitRecord;

use super::exit::Exit;
use super::state::State;
use crate::id::Id;
use crate::layout::{CONTAINER_RECORD, Layout};
use crate::record::{self, Record, RecordError};

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
    /// Its cgroup directory.
    pub cgroup: PathBuf,
    /// Its log.
    pub log_path: Option<PathBuf>,
    /// Who its first process runs as.
    pub user: UserRecord,
    /// Number of the signal that asks it to stop.
    pub stop_signal: i32,
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

impl Record for ContainerRecord {
    const VERSION: u32 = 1;
}

impl ContainerRecord {
    /// Where the record of a container is.
    pub fn path(layout: &Layout, id: &Id) -> PathBuf {
        layout.container(id).join(CONTAINER_RECORD)
    }

    /// Replaces the record on disk.
    pub fn write(&self, layout: &Layout) -> Result<(), RecordError> {
        record::write(&Self::path(layout, &self.id), self)
    }

    /// Reads the record in `dir`, which must be the container's of that record.
    pub fn read(dir: &Path) -> Result<Self, RecordError> {
        let path = dir.join(CONTAINER_RECORD);
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
