//! Layers that are out of their places and that containers may still run on.
//!
//! A running container needs the files of its layers, not their names: a layer that must leave its
//! place (its record is torn, no image names it, a whole one takes its place) is renamed into
//! `images/aside` and deleted there once it is known that nobody runs on it.
//!
//! Nobody does when every container of an earlier daemon holds an image whose layers were all
//! found in their places at this start. Of layers that were put aside before this start that
//! cannot be said, since an image may have been pulled again meanwhile: they wait until no
//! container of an earlier daemon is left.

use skiff_reference::Digest;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::layout::Layout;
use crate::trash::Trash;

/// The directory of such layers, and what is known of them.
#[derive(Debug)]
pub(crate) struct Aside {
    dir: PathBuf,
    trash_dir: PathBuf,
    /// Put aside before this start.
    old: Vec<PathBuf>,
    new: Vec<PathBuf>,
    /// Images that were whole at start.
    loaded: BTreeSet<Digest>,
    next: u64,
}

impl Aside {
    pub(crate) fn open(layout: &Layout) -> Result<Self, StoreError> {
        let dir = layout.aside();
        let listed = fs::read_dir(&dir).and_then(|all| all.map(|e| Ok(e?.path())).collect());
        Ok(Self {
            old: listed.map_err(StoreError::io("read", &dir))?,
            dir,
            trash_dir: layout.trash(),
            new: Vec::new(),
            loaded: BTreeSet::new(),
            next: 0,
        })
    }

    /// Says which images were found whole.
    pub(crate) fn loaded(&mut self, images: impl IntoIterator<Item = Digest>) {
        self.loaded = images.into_iter().collect();
    }

    /// Takes a layer's directory out of its place; one that is not there is fine. What cannot be
    /// moved stays, and is told.
    pub(crate) fn put(&mut self, layer: &Path, why: &dyn Display) {
        if let Err(e) = self.try_put(layer, why) {
            tracing::warn!(path = %layer.display(), error = %e, "it stays where it is");
        }
    }

    /// As [`Self::put`], for one whose place is needed.
    pub(crate) fn try_put(&mut self, layer: &Path, why: &dyn Display) -> Result<(), StoreError> {
        let target = self.free_name();
        match fs::rename(layer, &target) {
            Ok(()) => {
                tracing::warn!(
                    path = %layer.display(), moved_to = %target.display(), reason = %why,
                    "put a layer aside until no container can be running on it"
                );
                self.new.push(target);
                Ok(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(StoreError::io("put aside", layer)(e)),
        }
    }

    fn free_name(&mut self) -> PathBuf {
        loop {
            let name = self.dir.join(self.next.to_string());
            self.next += 1;
            if !self.old.contains(&name) {
                return name;
            }
        }
    }

    /// Deletes what nobody can be running on, when `earlier` are the images of all containers of
    /// an earlier daemon that are left.
    pub(crate) fn empty(&mut self, earlier: &BTreeSet<Digest>, trash: &Trash) {
        if earlier.is_empty() {
            self.new.append(&mut self.old);
        }
        if !earlier.is_subset(&self.loaded) {
            return;
        }
        self.new
            .retain(|path| match trash.discard(path, &self.trash_dir) {
                Ok(()) => false,
                Err(e) => {
                    tracing::warn!(path = %path.display(), error = %e, "cannot delete layer");
                    true
                }
            });
    }
}
