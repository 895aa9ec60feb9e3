//! Attachment records: `<pod id>.json` in one directory.
//!
//! A record is written before the first plugin runs, so that a daemon killed in between knows at
//! its next start what to detach, and again with the result after the last one. It carries the
//! whole configuration, so a pod is detached by what attached it, whatever became of the file.
//!
//! Invariants: a record is renamed into place whole and never synced; it is removed only after
//! every plugin has detached the pod; fields are added with `#[serde(default)]`, never renamed.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::network::Network;
use crate::pod::Pod;

/// The newest form of record; larger ones are not understood.
const VERSION: u32 = 1;

/// Why a record could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The file system refused.
    #[error("cannot {attempt} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is not a record.
    #[error("attachment record {} is unreadable: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What is known of one attachment.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) pod: Pod,
    /// What the pod was attached with.
    pub(crate) network: Arc<Network>,
    /// The last plugin's answer; `None` while plugins are at work, and after they were
    /// interrupted.
    pub(crate) result: Option<Value>,
}

/// A record as it is written.
#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    pod: &'a Pod,
    network: &'a Value,
    result: Option<&'a Value>,
}

/// A record as it is read back.
#[derive(Deserialize)]
struct Kept {
    version: u32,
    pod: Pod,
    network: Value,
    #[serde(default)]
    result: Option<Value>,
}

/// The directory of records.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens the directory, making it when missing, and removes what an interrupted write left.
    pub(crate) fn open(dir: &Path) -> Result<Self, CacheError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir);
        made.map_err(|source| io_error("make directory", dir, source))?;
        let cache = Self {
            dir: dir.to_owned(),
        };
        for name in cache.names()? {
            if name.ends_with(".tmp") {
                let path = dir.join(name);
                fs::remove_file(&path).map_err(|source| io_error("remove", &path, source))?;
            }
        }
        Ok(cache)
    }

    pub(crate) fn write(&self, record: &Record) -> Result<(), CacheError> {
        let path = self.path(&record.pod.id);
        let temporary = path.with_extension("json.tmp");
        let write = || {
            let json = serde_json::to_vec(&Written {
                version: VERSION,
                pod: &record.pod,
                network: &record.network.document,
                result: record.result.as_ref(),
            })?;
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&temporary)?.write_all(&json)?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|source| io_error("write", &path, source))
    }

    /// The record of a pod, if it has one.
    pub(crate) fn read(&self, id: &str) -> Result<Option<Record>, CacheError> {
        let path = self.path(id);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("read", &path, source)),
        };
        let corrupt = |reason| CacheError::Corrupt {
            path: path.clone(),
            reason,
        };
        let kept: Kept = serde_json::from_slice(&json).map_err(|e| corrupt(e.to_string()))?;
        if kept.version > VERSION {
            return Err(corrupt(format!(
                "version {} is newer than {VERSION}",
                kept.version
            )));
        }
        if kept.pod.id != id {
            return Err(corrupt(format!("it is about pod {:?}", kept.pod.id)));
        }
        let network =
            Network::from_document(&kept.network).map_err(|e| corrupt(format!("network: {e}")))?;
        Ok(Some(Record {
            pod: kept.pod,
            network: Arc::new(network),
            result: kept.result,
        }))
    }

    /// Forgets a pod; succeeds when nothing was known of it.
    pub(crate) fn remove(&self, id: &str) -> Result<(), CacheError> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path, e)),
            _ => Ok(()),
        }
    }

    /// Ids of all pods with a record, readable or not, sorted.
    pub(crate) fn ids(&self) -> Result<Vec<String>, CacheError> {
        let id = |name: String| name.strip_suffix(".json").map(str::to_owned);
        let mut ids: Vec<String> = self.names()?.into_iter().filter_map(id).collect();
        ids.sort();
        Ok(ids)
    }

    fn names(&self) -> Result<Vec<String>, CacheError> {
        let list = || {
            let names = fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name()));
            let names: io::Result<Vec<_>> = names.collect();
            Ok(names?
                .into_iter()
                .filter_map(|name| name.into_string().ok())
                .collect())
        };
        list().map_err(|source| io_error("list", &self.dir, source))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

fn io_error(attempt: &'static str, path: &Path, source: io::Error) -> CacheError {
    CacheError::Io {
        attempt,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn record(id: &str) -> Record {
        let pod = Pod {
            id: id.into(),
            name: "web".into(),
            ..Pod::default()
        };
        let document = json!({"name": "n", "plugins": [{"type": "bridge"}]});
        let network = Arc::new(Network::from_document(&document).unwrap());
        Record {
            pod,
            network,
            result: None,
        }
    }

    #[test]
    fn records_are_kept_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("deep/cni")).unwrap();
        assert!(cache.read("a").unwrap().is_none());
        cache.write(&record("b")).unwrap();
        cache.write(&record("a")).unwrap();
        assert_eq!(cache.ids().unwrap(), ["a", "b"]);
        assert_eq!(cache.read("a").unwrap().unwrap().pod.name, "web");
        cache.remove("a").unwrap();
        cache.remove("a").unwrap();
        assert_eq!(cache.ids().unwrap(), ["b"]);
    }

    #[test]
    fn an_interrupted_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.json.tmp"), "{").unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        assert!(cache.ids().unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_record_of_the_pod_is_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        cache.write(&record("other")).unwrap();
        let other = fs::read_to_string(dir.path().join("other.json")).unwrap();
        let newer = other
            .replace("\"version\":1", "\"version\":2")
            .replace("other", "a");
        let no_network = other.replace("bridge", "../x").replace("other", "a");
        for text in ["", "{\"version\":1", "[]", &other, &newer, &no_network] {
            fs::write(dir.path().join("a.json"), text).unwrap();
            let error = cache.read("a").unwrap_err();
            assert!(
                matches!(error, CacheError::Corrupt { .. }),
                "{text}: {error}"
            );
        }
        assert_eq!(cache.ids().unwrap(), ["a", "other"]);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(json in proptest::collection::vec(any::<u8>(), 0..100)) {
            let dir = tempfile::tempdir().unwrap();
            let cache = Cache::open(dir.path()).unwrap();
            fs::write(dir.path().join("a.json"), json).unwrap();
            prop_assert!(cache.read("a").is_err());
        }
    }
}
