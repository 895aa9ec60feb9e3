//! Where things are on disk, and the records that describe them.
//!
//! ```text
//! images/records/<64 hex of image id>/{image.json,config.json,manifest.json}
//! images/layers/<32 hex of chain id>/{layer.json,fs/}
//! images/aside/    layers out of their places; see `aside`
//! images/tmp/      images and layers being built; emptied at start
//! images/trash/    what is being deleted; emptied at start
//! ```
//!
//! A directory under `records` or `layers` is whole: it was built under `tmp` and renamed.
//! Whether it reached the disk before a power cut is another matter. A layer's data is flushed
//! before the first record that names it is written, and at start a layer that no record names
//! is put aside, so a torn layer is never used.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skiff_reference::Digest;
use skiff_signature::Evidence;

use crate::error::StoreError;

/// Version of the records that this build writes, and the newest it reads.
pub(crate) const VERSION: u32 = 1;

/// `image.json`: an image and its names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) version: u32,
    pub(crate) id: Digest,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) digests: BTreeSet<String>,
    /// Chain ids, lowest first.
    pub(crate) layers: Vec<Digest>,
    /// Removed by the user, kept for the containers that still run on it.
    #[serde(default)]
    pub(crate) removed: bool,
    /// Signatures of manifests and indexes that led to the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) signatures: Vec<Evidence>,
}

/// `layer.json`: an unpacked layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) version: u32,
    /// Names the layer on the layers below it; see [`chain`].
    pub(crate) chain_id: Digest,
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    /// Disk space in bytes, counted in blocks of 4096.
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    /// Hides every layer below it. Overlayfs looks for the mark of that in subdirectories only.
    #[serde(default)]
    pub(crate) opaque: bool,
}

/// Chain id of a layer on top of `below`, as the OCI image specification defines it.
pub(crate) fn chain(below: Option<Digest>, diff_id: Digest) -> Digest {
    match below {
        None => diff_id,
        Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
    }
}

/// The directories of an image store.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    next: AtomicU64,
}

impl Layout {
    /// Makes the directories below `root` that are missing.
    pub(crate) fn create(root: PathBuf) -> Result<Self, StoreError> {
        let layout = Self {
            root,
            next: AtomicU64::new(0),
        };
        for dir in [
            layout.records(),
            layout.layers(),
            layout.aside(),
            layout.tmp(),
            layout.trash(),
        ] {
            fs::create_dir_all(&dir).map_err(StoreError::io("create directory", &dir))?;
        }
        make_private(&layout.root)?;
        Ok(layout)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn records(&self) -> PathBuf {
        self.root.join("records")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn aside(&self) -> PathBuf {
        self.root.join("aside")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(crate) fn record(&self, id: Digest) -> PathBuf {
        self.records().join(id.hex())
    }

    /// A layer's directory. Half of the hex digits name it: an overlay of many layers must fit
    /// into the one page of options that older kernels take.
    pub(crate) fn layer(&self, chain_id: Digest) -> PathBuf {
        self.layers().join(&chain_id.hex()[..32])
    }

    /// The root directory of a layer's files.
    pub(crate) fn layer_fs(&self, chain_id: Digest) -> PathBuf {
        self.layer(chain_id).join("fs")
    }

    /// Directories of layers, uppermost first, down to one that hides all below it. `layers` are
    /// chain ids, lowest first.
    pub(crate) fn stack(
        &self,
        layers: &[Digest],
        is_opaque: impl Fn(Digest) -> bool,
    ) -> Vec<PathBuf> {
        let hidden = layers
            .iter()
            .rposition(|layer| is_opaque(*layer))
            .unwrap_or(0);
        layers[hidden..]
            .iter()
            .rev()
            .map(|layer| self.layer_fs(*layer))
            .collect()
    }

    /// A path under `tmp` that nothing has had since start.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.tmp()
            .join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

/// Closes a directory to everybody but root: images hold setuid programs and device nodes, which
/// no user of the host may reach by their paths (as in CVE-2021-41103).
pub(crate) fn make_private(dir: &Path) -> Result<(), StoreError> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        .map_err(StoreError::io("change the mode of", dir))
}

/// What every version of a record has.
#[derive(Deserialize)]
struct Header {
    version: u32,
}

/// Reads a record. One of a newer version is told from one that is torn, whatever its shape.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let json = fs::read(path).map_err(StoreError::io("read", path))?;
    let torn = |source| StoreError::Record {
        path: path.to_owned(),
        source,
    };
    let Header { version } = serde_json::from_slice(&json).map_err(torn)?;
    if version > VERSION {
        return Err(StoreError::Version {
            path: path.to_owned(),
            found: version,
            known: VERSION,
        });
    }
    serde_json::from_slice(&json).map_err(torn)
}

/// Writes a record and flushes it, so that a rename that follows never publishes an empty file.
pub(crate) fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), StoreError> {
    let json = serde_json::to_vec(record).map_err(|source| StoreError::Record {
        path: path.to_owned(),
        source,
    })?;
    write_bytes(path, &json).map_err(StoreError::io("write", path))
}

/// Writes and flushes a file.
pub(crate) fn write_bytes(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_through_an_opaque_layer() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::create(root.path().to_owned()).unwrap();
        let layers = [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c")];
        let fs = |layer: usize| layout.layer_fs(layers[layer]);
        assert_eq!(layout.stack(&layers, |_| false), [fs(2), fs(1), fs(0)]);
        assert_eq!(layout.stack(&layers, |id| id == layers[1]), [fs(2), fs(1)]);
        assert!(layout.stack(&[], |_| true).is_empty());
    }

    #[test]
    fn cve_2021_41103_no_user_of_the_host_reaches_setuid_programs_of_images() {
        let root = tempfile::tempdir().unwrap();
        let images = root.path().join("images");
        fs::create_dir(&images).unwrap();
        fs::set_permissions(&images, fs::Permissions::from_mode(0o755)).unwrap();
        let layout = Layout::create(images).unwrap();
        let mode = fs::metadata(layout.root()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
    }

    #[test]
    fn chain_of_one_is_the_layer_itself() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(chain(None, a), a);
        assert_ne!(chain(Some(a), b), chain(Some(b), a));
        assert_eq!(chain(Some(a), b), Digest::of(format!("{a} {b}").as_bytes()));
    }
}
