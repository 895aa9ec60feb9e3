//! What can be wrong with a layer.

use std::io;

use skiff_reference::Digest;

use super::tar::TarError;

/// Why a layer could not be unpacked. Nothing of it is left then.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The blob is not the one the manifest names.
    #[error("content has digest {found}")]
    Digest {
        /// Digest of what came.
        found: Digest,
    },
    /// The archive is not the one the configuration names.
    #[error("archive has digest {found}, the image configuration says {expected}")]
    DiffId {
        /// Digest of what came.
        found: Digest,
        /// What it should be.
        expected: Digest,
    },
    /// The blob is shorter or longer than the manifest says.
    #[error("content has {found} bytes, the manifest says {expected}")]
    Size {
        /// Bytes that came; reading stops at the first too many.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// The blob is no gzip or zstd stream after all, or a broken one.
    #[error("cannot inflate: {0}")]
    Inflate(#[source] io::Error),
    /// The archive cannot be read.
    #[error("{0}")]
    Archive(String),
    /// An entry that tries to leave the layer, or makes no sense.
    #[error("entry {entry:?} {reason}")]
    Refused {
        /// Its name in the archive.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More than the configured limit.
    #[error("unpacks to more than {limit} {unit}")]
    Limit {
        /// The limit.
        limit: u64,
        /// Bytes or entries.
        unit: &'static str,
    },
    /// The disk is full, or would be.
    #[error(
        "no space left on the image file system: {free} bytes are free, {reserve} of them are a reserve"
    )]
    NoSpace {
        /// Bytes available.
        free: u64,
        /// Bytes that a pull must leave.
        reserve: u64,
    },
    /// The file system refused.
    #[error("{action} {entry:?}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The entry's name in the archive.
        entry: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl LayerError {
    pub(super) fn io(
        action: &'static str,
        entry: &[u8],
    ) -> impl FnOnce(rustix::io::Errno) -> LayerError {
        move |errno| Self::Io {
            action,
            entry: printable(entry),
            source: errno.into(),
        }
    }

    pub(super) fn refused(entry: &[u8], reason: impl Into<String>) -> Self {
        Self::Refused {
            entry: printable(entry),
            reason: reason.into(),
        }
    }
}

impl From<TarError> for LayerError {
    fn from(error: TarError) -> Self {
        Self::Archive(error.to_string())
    }
}

/// A foreign name, short enough for a message.
pub(super) fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(256)]).into_owned()
}
