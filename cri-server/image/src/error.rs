//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A record is not what it should be.
    #[error("image record {path}: {source}")]
    Record {
        /// The record.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A record of a newer version of skiff.
    #[error("image record {path} has version {found}, this skiff reads up to {known}")]
    Version {
        /// The record.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A pinned image pattern that is none.
    #[error("pinned image {pattern:?}: '*' may stand only at the start or the end")]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// An image's layer is not in the store.
    #[error("image {image}: layer {layer} is missing")]
    LayerMissing {
        /// The image.
        image: crate::Digest,
        /// Chain id of the layer.
        layer: crate::Digest,
    },
    /// The thread that writes the store has ended.
    #[error("image store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
