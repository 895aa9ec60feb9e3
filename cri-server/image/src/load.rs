//! What an earlier daemon left in the store, and what becomes of that which cannot be used.
//!
//! | record | what becomes of it |
//! |---|---|
//! | whole | listed |
//! | torn, missing, or not where it says it belongs | discarded; a layer is put aside first |
//! | cannot be read now, or only by a newer skiff | not listed, stays as it is |
//! | a layer that no image names | put aside |
//!
//! Containers may run on any of these layers, whatever their records look like, so no layer is
//! deleted here: see [`crate::aside`]. And while an image's record cannot be read, nobody knows
//! which layers it names: none of those that seem unused is touched then.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::aside::Aside;
use crate::catalog::Catalog;
use crate::error::StoreError;
use crate::image::Image;
use crate::keeper;
use crate::layout::{self, ImageRecord, LayerRecord, Layout};
use crate::pin::Pins;
use crate::trash::Trash;

/// What is in the store.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) catalog: Catalog,
    /// Directories of images whose records are there and cannot be read.
    pub(crate) unread: BTreeSet<PathBuf>,
}

/// Reads every record. Fails only when the directories cannot be listed.
pub(crate) fn load(
    layout: &Layout,
    pins: &Pins,
    aside: &mut Aside,
    trash: &Trash,
) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded::default();
    let unread_layers = layers(layout, &mut loaded.catalog, aside)?;
    for dir in entries(&layout.records())? {
        match image(layout, pins, &loaded.catalog, &dir) {
            Ok((record, image)) => loaded.catalog.put_image(record, Arc::new(image)),
            Err(e) if may_be_whole(&e, layout, &unread_layers) => {
                hide(&dir, &e);
                loaded.unread.insert(dir);
            }
            Err(e) => discard(&dir, &e, layout, trash),
        }
    }
    for chain_id in loaded.catalog.unnamed_layers() {
        // Whether its data reached the disk before a power cut nobody knows: it is not used again.
        loaded.catalog.remove_layer(chain_id);
        if loaded.unread.is_empty() {
            aside.put(&layout.layer(chain_id), &"no image names it");
        }
    }
    aside.loaded(loaded.catalog.image_ids());
    Ok(loaded)
}

/// Reads the layers' records; returns the directories of those that cannot be read.
fn layers(
    layout: &Layout,
    catalog: &mut Catalog,
    aside: &mut Aside,
) -> Result<BTreeSet<PathBuf>, StoreError> {
    let mut unread = BTreeSet::new();
    for dir in entries(&layout.layers())? {
        match layout::read::<LayerRecord>(&dir.join("layer.json")) {
            Ok(record) if layout.layer(record.chain_id) == dir => catalog.put_layer(record, None),
            Ok(_) => aside.put(&dir, &"it is not where its record says"),
            Err(e) if is_passing(&e) => {
                hide(&dir, &e);
                unread.insert(dir);
            }
            Err(e) => aside.put(&dir, &e),
        }
    }
    Ok(unread)
}

fn image(
    layout: &Layout,
    pins: &Pins,
    catalog: &Catalog,
    dir: &Path,
) -> Result<(ImageRecord, Image), StoreError> {
    let record: ImageRecord = layout::read(&dir.join("image.json"))?;
    let path = dir.join("config.json");
    let config = fs::read(&path).map_err(StoreError::io("read", &path))?;
    let image = keeper::build(layout, catalog, pins, &record, &config)?;
    Ok((record, image))
}

fn may_be_whole(error: &StoreError, layout: &Layout, unread_layers: &BTreeSet<PathBuf>) -> bool {
    match error {
        StoreError::LayerMissing { layer, .. } => unread_layers.contains(&layout.layer(*layer)),
        error => is_passing(error),
    }
}

/// Whether a record may be whole though it could not be read: another attempt, or a newer skiff,
/// may read it.
fn is_passing(error: &StoreError) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match error {
        StoreError::Io { source, .. } => !matches!(source.kind(), NotFound | NotADirectory),
        StoreError::Version { .. } => true,
        _ => false,
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listed = fs::read_dir(dir).and_then(|all| all.map(|entry| Ok(entry?.path())).collect());
    listed.map_err(StoreError::io("read", dir))
}

fn hide(dir: &Path, why: &dyn Display) {
    tracing::error!(
        path = %dir.display(), reason = %why,
        "a record of the image store cannot be read; it is kept and not listed. Pull the image \
         again, or see that the record can be read and restart"
    );
}

fn discard(dir: &Path, why: &dyn Display, layout: &Layout, trash: &Trash) {
    tracing::warn!(path = %dir.display(), reason = %why, "discarding from the image store");
    if let Err(e) = trash.discard(dir, &layout.trash()) {
        tracing::warn!(path = %dir.display(), error = %e, "cannot discard");
    }
}
