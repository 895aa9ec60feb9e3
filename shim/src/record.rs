//! Exit records: what is left of a container for a daemon that was not there when it ended.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use skiff_shim_proto::record::ExitRecord;

/// Layout of the record.
pub(crate) const VERSION: u32 = 1;

/// Writes a record so that a reader finds all of it or nothing, whenever anyone dies.
///
/// Not synced: after a power cut the container is gone anyway, and the daemon says so.
pub(crate) fn write(path: &Path, record: &ExitRecord) -> io::Result<()> {
    let temporary = temporary(path);
    let written = write_new(&temporary, record).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, record: &ExitRecord) -> io::Result<()> {
    let json = serde_json::to_vec(record)?;
    File::create(path)?.write_all(&json)
}

/// In the same directory, so that the rename stays within its file system.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ExitRecord {
        ExitRecord {
            version: VERSION,
            id: "c".into(),
            code: 137,
            signal: 9,
            oom_killed: true,
            started_at: 1,
            finished_at: 2,
            start_error: None,
        }
    }

    #[test]
    fn a_record_is_whole_and_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exit.json");
        fs::write(temporary(&path), "left by somebody who died").unwrap();
        write(&path, &record()).unwrap();
        let read: ExitRecord = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, record());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_the_old_record_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exit.json");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "").unwrap();
        assert!(write(&path, &record()).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write(&dir.path().join("absent/exit.json"), &record()).is_err());
    }
}
