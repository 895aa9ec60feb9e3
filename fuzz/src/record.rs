//! What the daemon remembers of pods and containers.

use std::fs;

use skiff_cri_server::container::record::ContainerRecord;
use skiff_cri_server::id::Id;
use skiff_cri_server::layout::Layout;
use skiff_cri_server::pod::record::PodRecord;
use skiff_cri_server::record::RecordError;

/// A pod's record.
pub fn pod_record(data: &[u8]) {
    let (root, layout, id) = state();
    let path = layout.pod(&id);
    fs::write(&path, data).expect("write a record");
    let Some((request, record)) = read(PodRecord::read(&path)) else {
        return;
    };
    assert_eq!(record.id, id);
    record.write(&layout).expect("a record can be changed");
    let again = PodRecord::read(&path).expect("and read");
    assert_eq!(again, (request, record));
    drop(root);
}

/// A container's record.
pub fn container_record(data: &[u8]) {
    let (root, layout, id) = state();
    let path = layout.container(&id);
    fs::write(&path, data).expect("write a record");
    let Some((birth, record)) = read(ContainerRecord::read(&path)) else {
        return;
    };
    assert_eq!(record.id, id);
    record.write(&layout).expect("a record can be changed");
    let again = ContainerRecord::read(&path).expect("and read");
    assert_eq!(again, (birth, record));
    drop(root);
}

fn state() -> (tempfile::TempDir, Layout, Id) {
    let root = crate::scratch();
    let layout = Layout::new(root.path().join("root"), root.path().join("state"));
    for dir in [layout.pods(), layout.containers()] {
        fs::create_dir_all(dir).expect("make a directory");
    }
    let id = Id::parse(&"a".repeat(64)).expect("an id");
    (root, layout, id)
}

/// What cannot be read is told from a record that is missing: it is to be quarantined.
fn read<R>(result: Result<R, RecordError>) -> Option<R> {
    result
        .inspect_err(|error| assert!(!error.is_missing(), "{error}"))
        .ok()
}
