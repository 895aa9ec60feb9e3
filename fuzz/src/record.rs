//! What the daemon remembers of pods and containers.

use std::fs;
use std::path::Path;

use skiff_cri_server::container::record::ContainerRecord;
use skiff_cri_server::id::Id;
use skiff_cri_server::layout::{CONTAINER_RECORD, Layout, POD_RECORD};
use skiff_cri_server::pod::record::PodRecord;
use skiff_cri_server::record::RecordError;

/// A pod's record.
pub fn pod_record(data: &[u8]) {
    let (root, layout, id) = state();
    let dir = layout.pod(&id);
    put(&dir, POD_RECORD, data);
    let Some(record) = read(PodRecord::read(&dir)) else {
        return;
    };
    assert_eq!(record.id, id);
    record.write(&layout).expect("a record can be written");
    assert_eq!(PodRecord::read(&dir).expect("and read"), record);
    drop(root);
}

/// A container's record.
pub fn container_record(data: &[u8]) {
    let (root, layout, id) = state();
    let dir = layout.container(&id);
    put(&dir, CONTAINER_RECORD, data);
    let Some(record) = read(ContainerRecord::read(&dir)) else {
        return;
    };
    assert_eq!(record.id, id);
    record.write(&layout).expect("a record can be written");
    assert_eq!(ContainerRecord::read(&dir).expect("and read"), record);
    drop(root);
}

fn state() -> (tempfile::TempDir, Layout, Id) {
    let root = crate::scratch();
    let layout = Layout::new(root.path().join("root"), root.path().join("state"));
    let id = Id::parse(&"a".repeat(64)).expect("an id");
    (root, layout, id)
}

fn put(dir: &Path, name: &str, data: &[u8]) {
    fs::create_dir_all(dir).expect("make a directory");
    fs::write(dir.join(name), data).expect("write a record");
}

/// What cannot be read is told from a record that is missing: it is to be quarantined.
fn read<R>(result: Result<R, RecordError>) -> Option<R> {
    result
        .inspect_err(|error| assert!(!error.is_missing(), "{error}"))
        .ok()
}
