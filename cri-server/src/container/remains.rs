//! What a container holds outside its shim, and giving that back.

use super::error::ContainerError;
use crate::daemon::Daemon;
use crate::id::Id;
use crate::layout::Layout;

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
    daemon.images.release(id.as_str());
    discard(&daemon.layout, id);
    Ok(())
}

/// Removes a container's records, its own first: an exit record alone is a left-over, a record
/// without what it names would be a broken container.
pub fn discard(layout: &Layout, id: &Id) {
    let _ = std::fs::remove_file(layout.container(id));
    let _ = std::fs::remove_file(layout.container_exit(id));
}
