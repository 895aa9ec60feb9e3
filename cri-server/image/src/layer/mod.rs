//! From a layer's blob to a directory that an overlay can use.
//!
//! ```text
//!  registry ──Bytes──> [inflate] ──blocks──> [unpack] ──> tmp/<n>/fs
//!            8 chunks   sha256 of             sha256 of
//!                       the blob              the archive
//! ```
//!
//! Two threads per layer (`stream`), with short queues between them, so memory does not depend
//! on the layer's size. `tar` reads entries, `extract` makes them, `graft` settles what depends
//! on the layers below; `confine` takes from the threads what they do not need.

mod attributes;
mod confine;
mod error;
mod extract;
mod graft;
mod header;
mod name;
mod pax;
mod place;
mod retained;
mod scratch;
mod sparse;
mod stream;
mod tar;
#[cfg(test)]
mod tests;

use std::io::BufRead;
use std::path::Path;

pub use error::LayerError;
pub use extract::Extracted;
pub(crate) use graft::copy_attributes;
pub use graft::graft;
pub(crate) use scratch::Scratch;
pub(crate) use stream::{Blob, QUEUE, Unpacked, unpack};

/// Makes the entries of an uncompressed archive below `root`, an empty directory, and nowhere else.
/// What entries replace is moved to `replaced`, a directory on the same file system.
pub fn extract(
    archive: impl BufRead,
    root: &Path,
    replaced: &Path,
    limits: Limits,
) -> Result<Extracted, LayerError> {
    extract::Extractor::new(root, replaced, limits)?.run(&mut tar::Reader::new(archive))
}

/// What one layer may cost. Names that must be remembered have a limit of their own.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the uncompressed archive, and of a sparse file.
    pub bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes to leave free on the file system.
    pub reserve: u64,
}
