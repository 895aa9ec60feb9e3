//! The one thread that changes the store.
//!
//! It owns the catalog, so changes need no lock and follow one another; each changes the disk
//! first and publishes a new view then, except that removal takes things out of sight first.
//! Everything slow (downloads, unpacking, flushing, deleting) is done by others before or after.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use skiff_reference::Digest;
use skiff_signature::Evidence;
use tokio::sync::oneshot;

use crate::aside::Aside;
use crate::catalog::{Catalog, View};
use crate::error::StoreError;
use crate::image::Image;
use crate::layout::{self, ImageRecord, LayerRecord, Layout, VERSION};
use crate::manifest::ConfigFile;
use crate::pin::Pins;
use crate::trash::Trash;
use crate::usage::Uses;

/// Most signatures that are kept of one manifest or index, the newest.
const MAX_SIGNATURES: usize = 128;

/// A change to the store, with the place for its outcome.
#[derive(Debug)]
pub(crate) enum Change {
    /// A layer is unpacked; `dir` holds `fs` and is moved into place.
    AddLayer {
        record: LayerRecord,
        dir: PathBuf,
        done: oneshot::Sender<Result<(), StoreError>>,
    },
    /// A pull is complete and its layers are on disk.
    Commit {
        commit: Box<Commit>,
        done: oneshot::Sender<Result<Arc<Image>, StoreError>>,
    },
    /// A pull found that an image which is here has a further name. `None` when it is gone
    /// meanwhile.
    Tag {
        id: Digest,
        tag: String,
        done: oneshot::Sender<Result<Option<Arc<Image>>, StoreError>>,
    },
    /// An image that is here was asked for its signatures. `None` when it is gone meanwhile.
    Sign {
        id: Digest,
        signatures: Vec<Evidence>,
        done: oneshot::Sender<Result<Option<Arc<Image>>, StoreError>>,
    },
    /// An image is to go, with all its names.
    Remove {
        id: Digest,
        done: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Other images are to be pinned.
    Pin { pins: Pins },
    /// A hold has ended, or all holds of an earlier life are known.
    Sweep { holds_known: bool },
}

/// An image as a pull found it.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) id: Digest,
    pub(crate) tag: Option<String>,
    pub(crate) digest: String,
    pub(crate) layers: Vec<Digest>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) signatures: Vec<Evidence>,
}

/// What the thread owns and shares.
pub(crate) struct Keeper {
    pub(crate) layout: Arc<Layout>,
    pub(crate) trash: Trash,
    pub(crate) uses: Arc<Uses>,
    pub(crate) view: Arc<ArcSwap<View>>,
    pub(crate) catalog: Catalog,
    /// Directories of images whose records cannot be read: they may name any layer.
    pub(crate) unread: BTreeSet<PathBuf>,
    pub(crate) aside: Aside,
    pub(crate) pins: Pins,
    /// How long an unpacked layer waits for an image to name it.
    pub(crate) grace: Duration,
    /// Whether every hold there is has been said. Before that no image and no layer may go.
    pub(crate) holds_known: bool,
}

impl Keeper {
    /// Works until the other end of `changes` is gone.
    pub(crate) fn run(mut self, changes: &Receiver<Change>) {
        self.sweep();
        loop {
            let change = match self.catalog.next_end_of_grace() {
                None => changes.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(end) => changes.recv_timeout(end.saturating_duration_since(Instant::now())),
            };
            match change {
                Ok(change) => self.apply(change),
                Err(RecvTimeoutError::Timeout) => self.sweep(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn apply(&mut self, change: Change) {
        // Whoever asked may have been cancelled; the change is made all the same.
        match change {
            Change::AddLayer { record, dir, done } => {
                let _ = done.send(self.add_layer(record, &dir));
            }
            Change::Commit { commit, done } => {
                let _ = done.send(self.commit(*commit));
            }
            Change::Tag { id, tag, done } => {
                let _ = done.send(self.tag(id, tag));
            }
            Change::Sign {
                id,
                signatures,
                done,
            } => {
                let _ = done.send(self.sign(id, signatures));
            }
            Change::Remove { id, done } => {
                let _ = done.send(self.remove(id));
            }
            Change::Pin { pins } => {
                self.catalog
                    .pin(|record| pins.matches(record.tags.iter().chain(&record.digests)));
                self.pins = pins;
                self.publish();
            }
            Change::Sweep { holds_known } => {
                self.holds_known |= holds_known;
                self.sweep();
            }
        }
    }

    fn publish(&self) {
        self.view.store(Arc::new(self.catalog.view()));
    }

    fn add_layer(&mut self, record: LayerRecord, dir: &Path) -> Result<(), StoreError> {
        if self.catalog.layer(record.chain_id).is_some() {
            // Two pulls unpacked it, or a sweep had hidden it for a moment. The one in place may
            // be in use.
            self.publish();
            return self.trash.discard(dir, &self.layout.trash());
        }
        let target = self.layout.layer(record.chain_id);
        layout::write(&dir.join("layer.json"), &record)?;
        // One that is not in the catalog has a record that cannot be read.
        self.aside.try_put(&target, &"it was pulled again")?;
        fs::rename(dir, &target).map_err(StoreError::io("move into place", &target))?;
        self.catalog
            .put_layer(record, Some(Instant::now() + self.grace));
        self.publish();
        Ok(())
    }

    fn commit(&mut self, commit: Commit) -> Result<Arc<Image>, StoreError> {
        let tags: BTreeSet<String> = commit.tag.into_iter().collect();
        self.take_tags(&tags, commit.id)?;
        let known = self.catalog.record(commit.id);
        let mut record = known.cloned().unwrap_or(ImageRecord {
            version: VERSION,
            id: commit.id,
            tags: BTreeSet::new(),
            digests: BTreeSet::new(),
            layers: commit.layers,
            removed: false,
            signatures: Vec::new(),
        });
        if record.removed {
            // Its old names ended with it.
            record.removed = false;
            record.tags.clear();
            record.digests.clear();
            record.signatures.clear();
        }
        record.tags.extend(tags);
        record.digests.insert(commit.digest);
        add_signatures(&mut record, commit.signatures);
        let image = if known.is_some() {
            self.rewrite(record)?
        } else {
            self.create(record, &commit.config, &commit.manifest)?
        };
        self.publish();
        Ok(image)
    }

    fn tag(&mut self, id: Digest, tag: String) -> Result<Option<Arc<Image>>, StoreError> {
        let visible = self.catalog.record(id).filter(|record| !record.removed);
        let Some(mut record) = visible.cloned() else {
            return Ok(None);
        };
        let tags = BTreeSet::from([tag]);
        self.take_tags(&tags, id)?;
        let image = if tags.is_subset(&record.tags) {
            self.catalog.image(id)
        } else {
            record.tags.extend(tags);
            Some(self.rewrite(record)?)
        };
        self.publish();
        Ok(image)
    }

    fn sign(
        &mut self,
        id: Digest,
        signatures: Vec<Evidence>,
    ) -> Result<Option<Arc<Image>>, StoreError> {
        let visible = self.catalog.record(id).filter(|record| !record.removed);
        let Some(mut record) = visible.cloned() else {
            return Ok(None);
        };
        add_signatures(&mut record, signatures);
        let image = self.rewrite(record)?;
        self.publish();
        Ok(Some(image))
    }

    /// Takes tags away from every image but `id`. This comes first, so that after a crash a tag
    /// names one image or none.
    fn take_tags(&mut self, tags: &BTreeSet<String>, id: Digest) -> Result<(), StoreError> {
        for record in self.catalog.losing(tags, id) {
            self.rewrite(record)?;
        }
        Ok(())
    }

    /// Writes a new image's directory.
    fn create(
        &mut self,
        record: ImageRecord,
        config: &[u8],
        manifest: &[u8],
    ) -> Result<Arc<Image>, StoreError> {
        let image = Arc::new(build(
            &self.layout,
            &self.catalog,
            &self.pins,
            &record,
            config,
        )?);
        let (scratch, target) = (self.layout.scratch(), self.layout.record(record.id));
        fs::create_dir(&scratch).map_err(StoreError::io("create directory", &scratch))?;
        for (name, content) in [("config.json", config), ("manifest.json", manifest)] {
            let path = scratch.join(name);
            layout::write_bytes(&path, content).map_err(StoreError::io("write", &path))?;
        }
        layout::write(&scratch.join("image.json"), &record)?;
        self.trash.discard(&target, &self.layout.trash())?;
        fs::rename(&scratch, &target).map_err(StoreError::io("move into place", &target))?;
        self.unread.remove(&target);
        self.catalog.put_image(record, image.clone());
        Ok(image)
    }

    /// Replaces the record of an image that exists.
    fn rewrite(&mut self, record: ImageRecord) -> Result<Arc<Image>, StoreError> {
        let dir = self.layout.record(record.id);
        let config = dir.join("config.json");
        let config = fs::read(&config).map_err(StoreError::io("read", &config))?;
        let image = Arc::new(build(
            &self.layout,
            &self.catalog,
            &self.pins,
            &record,
            &config,
        )?);
        let (scratch, target) = (self.layout.scratch(), dir.join("image.json"));
        layout::write(&scratch, &record)?;
        fs::rename(&scratch, &target).map_err(StoreError::io("replace", &target))?;
        self.catalog.put_image(record, image.clone());
        Ok(image)
    }

    fn remove(&mut self, id: Digest) -> Result<(), StoreError> {
        let Some(mut record) = self.catalog.record(id).cloned() else {
            return Ok(());
        };
        if !record.removed {
            record.removed = true;
            self.rewrite(record)?;
        }
        self.publish();
        self.sweep();
        Ok(())
    }

    /// Deletes what nothing keeps. Failures are told and tried again at the next sweep.
    fn sweep(&mut self) {
        if self.holds_known {
            self.sweep_images();
            self.aside
                .empty(&self.uses.held_from_earlier(), &self.trash);
        }
        let now = Instant::now();
        let candidates = self.catalog.unused_layers(now, |_| false);
        if candidates.is_empty() {
            return;
        }
        if !self.knows_layers_in_use() {
            for chain_id in candidates {
                self.catalog.prolong(chain_id, now + self.grace);
            }
            return;
        }
        self.withdraw(&candidates);
        for chain_id in candidates {
            self.sweep_layer(chain_id, now);
        }
        self.publish();
    }

    fn sweep_images(&mut self) {
        let trash = self.layout.trash();
        for id in self.catalog.unheld(|id| self.uses.is_held(id)) {
            match self.trash.discard(&self.layout.record(id), &trash) {
                Ok(()) => self.catalog.remove_image(id),
                Err(e) => tracing::warn!(image = %id, error = %e, "cannot delete image"),
            }
        }
    }

    /// Whether every layer that is in use is named by an image in the catalog: the containers'
    /// holds are known, and so are the layers of each image that is held or recorded.
    fn knows_layers_in_use(&self) -> bool {
        let known = |id: &Digest| self.catalog.record(*id).is_some();
        self.holds_known && self.unread.is_empty() && self.uses.held().iter().all(known)
    }

    /// Deletes a layer that nothing keeps, if no pull has found it in the meantime.
    fn sweep_layer(&mut self, chain_id: Digest, now: Instant) {
        if self.uses.is_leased(chain_id) {
            self.catalog.prolong(chain_id, now + self.grace);
            return;
        }
        let (layer, trash) = (self.layout.layer(chain_id), self.layout.trash());
        match self.trash.discard(&layer, &trash) {
            Ok(()) => self.catalog.remove_layer(chain_id),
            Err(e) => {
                tracing::warn!(layer = %chain_id, error = %e, "cannot delete layer");
                self.catalog.prolong(chain_id, now + self.grace);
            }
        }
    }

    /// Takes layers out of sight before their uses are looked at; see [`crate::usage`].
    fn withdraw(&self, layers: &[Digest]) {
        let mut view = self.catalog.view();
        view.layers.retain(|id, _| !layers.contains(id));
        self.view.store(Arc::new(view));
    }
}

/// Adds what was found of signatures. None is taken away that was found before, unless there are
/// too many: a verdict once given stays true.
fn add_signatures(record: &mut ImageRecord, found: Vec<Evidence>) {
    for mut new in found {
        let same = |old: &Evidence| old.repository == new.repository && old.digest == new.digest;
        if let Some(place) = record.signatures.iter().position(same) {
            let old = record.signatures.swap_remove(place).signatures;
            let unknown = old.into_iter().filter(|one| !new.signatures.contains(one));
            new.signatures.extend(unknown.collect::<Vec<_>>());
            new.signatures.truncate(MAX_SIGNATURES);
        }
        record.signatures.push(new);
    }
}

/// What readers see of a record.
pub(crate) fn build(
    layout: &Layout,
    catalog: &Catalog,
    pins: &Pins,
    record: &ImageRecord,
    config: &[u8],
) -> Result<Image, StoreError> {
    let file: ConfigFile = serde_json::from_slice(config).map_err(|source| StoreError::Record {
        path: layout.record(record.id).join("config.json"),
        source,
    })?;
    let mut size = config.len() as u64;
    for layer in &record.layers {
        let missing = || StoreError::LayerMissing {
            image: record.id,
            layer: *layer,
        };
        size += catalog.layer(*layer).ok_or_else(missing)?.bytes;
    }
    let is_opaque = |id| catalog.layer(id).is_some_and(|layer| layer.opaque);
    Ok(Image {
        id: record.id,
        repo_tags: record.tags.iter().cloned().collect(),
        repo_digests: record.digests.iter().cloned().collect(),
        size,
        config: file.config,
        layers: layout.stack(&record.layers, is_opaque),
        pinned: pins.matches(record.tags.iter().chain(&record.digests)),
        signatures: record.signatures.clone(),
    })
}
