//! What a container holds outside its shim, and giving that back.

use std::path::Path;

use super::error::ContainerError;
use crate::daemon::Daemon;
use crate::id::Id;
use crate::layout::CONTAINER_RECORD;

/// Removes what a container holds outside its shim: snapshot, image, directory.
pub fn give_back(daemon: &Daemon, id: &Id) -> Result<(), ContainerError> {
    daemon
        .images
        .remove_snapshot(id.as_str())
        .map_err(|source| ContainerError::Image {
            action: "remove the root file system",
            id: id.clone(),
            source,
        })?;
    daemon.images.release(id.as_str());
    discard(&daemon.layout.container(id), CONTAINER_RECORD);
    Ok(())
}

/// Removes a record's directory, the record first: a directory without one is a left-over, one
/// with a record and nothing else would be a broken container.
pub fn discard(dir: &Path, record: &str) {
    let _ = std::fs::remove_file(dir.join(record));
    let _ = std::fs::remove_dir_all(dir);
}
