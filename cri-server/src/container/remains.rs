//! What a container holds outside its shim, and giving that back.

use super::error::ContainerError;
use crate::daemon::Daemon;
use crate::id::Id;
use crate::layout::Layout;
use crate::record::{self, RecordError};

/// Removes what a container holds outside its shim: snapshot, image, records.
pub fn give_back(daemon: &Daemon, id: &Id) -> Result<(), ContainerError> {
    daemon
        .images
        .remove_snapshot(id.as_str())
        .map_err(|source| ContainerError::Image {
            action: "remove the root file system",
            id: id.clone(),
            source,
        })?;
    // A container whose record stays would be back after a restart, and still holds its image.
    discard(&daemon.layout, id)?;
    daemon.images.release(id.as_str());
    Ok(())
}

/// Removes a container's records, its own first: an exit record alone is a left-over, a record
/// without what it names would be a broken container. Fails when the record stays.
pub fn discard(layout: &Layout, id: &Id) -> Result<(), RecordError> {
    record::remove(&layout.container(id))?;
    let _ = std::fs::remove_file(layout.container_exit(id));
    Ok(())
}
