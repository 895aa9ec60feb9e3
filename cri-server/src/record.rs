//! Records: what the daemon must still know after it was killed.
//!
//! A record is a JSON file with a `version`, written under a temporary name in its directory and
//! renamed into place. Nothing is synced (ARCHITECTURE.md, invariants): a reader meets the old
//! record, the new one, or after a power cut a torn one, which [`read`] reports as malformed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::Id;

/// Why a record could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// Not a record: torn, or not ours.
    #[error("read record {}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where parsing stopped.
        #[source]
        source: serde_json::Error,
    },
    /// Not the record of the directory it is in.
    #[error("record {} is of {id}", path.display())]
    Misplaced {
        /// The file.
        path: PathBuf,
        /// Whose record it is.
        id: Id,
    },
    /// Written by a newer daemon.
    #[error("record {} has version {found}, this daemon knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that can be read.
        known: u32,
    },
}

impl RecordError {
    /// Whether there is no such record at all.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// A type that is kept in a file of its own.
pub trait Record: Serialize + DeserializeOwned {
    /// The version written, and the newest that can be read.
    const VERSION: u32;
}

#[derive(Deserialize)]
struct Header {
    version: u32,
}

#[derive(Serialize)]
struct Envelope<'a, R> {
    version: u32,
    #[serde(flatten)]
    record: &'a R,
}

/// Replaces the record at `path`.
pub fn write<R: Record>(path: &Path, record: &R) -> Result<(), RecordError> {
    let malformed = |source| RecordError::Malformed {
        path: path.into(),
        source,
    };
    let json = serde_json::to_vec(&Envelope {
        version: R::VERSION,
        record,
    })
    .map_err(malformed)?;
    write_bytes(path, &json)
}

/// Replaces the file at `path`, so that a reader sees all of `bytes` or what was there before.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|source| RecordError::Io {
            action: "write record",
            path: path.into(),
            source,
        })
}

/// Reads the record at `path`.
pub fn read<R: Record>(path: &Path) -> Result<R, RecordError> {
    let json = fs::read(path).map_err(|source| RecordError::Io {
        action: "read record",
        path: path.into(),
        source,
    })?;
    let malformed = |source| RecordError::Malformed {
        path: path.into(),
        source,
    };
    let Header { version } = serde_json::from_slice(&json).map_err(malformed)?;
    if version > R::VERSION {
        return Err(RecordError::Newer {
            path: path.into(),
            found: version,
            known: R::VERSION,
        });
    }
    serde_json::from_slice(&json).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        name: String,
    }

    impl Record for Thing {
        const VERSION: u32 = 2;
    }

    #[test]
    fn what_is_written_is_read_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.json");
        for name in ["a", "b"] {
            write(&path, &Thing { name: name.into() }).unwrap();
            assert_eq!(read::<Thing>(&path).unwrap().name, name);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_torn_record_is_malformed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.json");
        write(
            &path,
            &Thing {
                name: "whole".into(),
            },
        )
        .unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let got = read::<Thing>(&path);
            assert!(
                matches!(got, Err(RecordError::Malformed { .. })),
                "{length}: {got:?}"
            );
        }
    }

    #[test]
    fn newer_and_missing_records_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.json");
        assert!(read::<Thing>(&path).unwrap_err().is_missing());
        fs::write(&path, r#"{"version":3,"shape":"unknown"}"#).unwrap();
        let error = read::<Thing>(&path).unwrap_err();
        assert!(
            matches!(
                error,
                RecordError::Newer {
                    found: 3,
                    known: 2,
                    ..
                }
            ),
            "{error}"
        );
    }
}
