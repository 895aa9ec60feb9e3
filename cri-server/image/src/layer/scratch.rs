//! A directory in which a layer is being built. Dropping it discards it.

use std::fs;
use std::path::PathBuf;

use crate::error::StoreError;
use crate::layout::Layout;
use crate::trash::Trash;

/// `tmp/<n>/`, with the layer's files in `fs` and what later entries replaced in `replaced`.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    trash_dir: PathBuf,
    trash: Trash,
    keep: bool,
}

impl Scratch {
    pub(crate) fn create(layout: &Layout, trash: &Trash) -> Result<Self, StoreError> {
        let path = layout.scratch();
        let scratch = Self {
            path,
            trash_dir: layout.trash(),
            trash: trash.clone(),
            keep: false,
        };
        for dir in [scratch.path.clone(), scratch.fs(), scratch.replaced()] {
            fs::create_dir(&dir).map_err(StoreError::io("create directory", &dir))?;
        }
        Ok(scratch)
    }

    /// Directory of the layer's files.
    pub(crate) fn fs(&self) -> PathBuf {
        self.path.join("fs")
    }

    /// Directory for what the archive itself replaced.
    pub(super) fn replaced(&self) -> PathBuf {
        self.path.join("replaced")
    }

    /// Hands the directory over, without what was replaced.
    pub(crate) fn finish(mut self) -> Result<PathBuf, StoreError> {
        self.trash.discard(&self.replaced(), &self.trash_dir)?;
        self.keep = true;
        Ok(self.path.clone())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(e) = self.trash.discard(&self.path, &self.trash_dir) {
            tracing::warn!(path = %self.path.display(), error = %e, "left for the next start");
        }
    }
}
