//! `state`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::record::{Record, Root, Status};
use crate::sys;

/// Prints a container's state.
pub(crate) fn run(root: &Root, id: &str) -> Result<()> {
    let record = root.load(id)?;
    sys::print(&format!("{:#}\n", of(&record)?))
}

/// The state of the runtime-spec, and what runc adds to it.
pub(crate) fn of(record: &Record) -> Result<Value> {
    let status = record.status()?;
    let pid = if status == Status::Stopped {
        0
    } else {
        record.pid
    };
    Ok(json!({
        "ociVersion": record.spec.version(),
        "id": record.id,
        "pid": pid,
        "status": status.name(),
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "annotations": record.spec.annotations().clone().unwrap_or_default(),
        "owner": "root",
    }))
}
