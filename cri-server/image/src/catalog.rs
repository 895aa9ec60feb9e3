//! What is in the store: names, images, layers. Pure; the keeper owns the one instance, does
//! what a change asks for on disk, and publishes a [`View`] for readers.
//!
//! ```text
//!  image:   (pull) ──> visible ──(remove)──> gone
//!                         │                    ^
//!                         └─(remove, held)─> hidden ──(released)
//!                                              │
//!                         visible <──(pull)────┘
//! ```
//!
//! A layer lives as long as a visible or hidden image names it, a pull leases it, or its grace
//! after unpacking lasts, in which a failed pull may be tried again.

use skiff_reference::Digest;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::image::Image;
use crate::layout::{ImageRecord, LayerRecord};
use crate::snapshot::Usage;
use skiff_reference::Reference;

/// What readers see. Immutable.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Visible images by id.
    pub(crate) images: BTreeMap<Digest, Arc<Image>>,
    /// Tags and repository digests of visible images.
    names: HashMap<String, Digest>,
    /// Every unpacked layer by chain id.
    pub(crate) layers: HashMap<Digest, Arc<LayerRecord>>,
    /// Disk space of the layers.
    pub(crate) usage: Usage,
}

impl View {
    /// Finds an image by id (with or without `sha256:`), by reference, or by reference in a
    /// short form.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Image>> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if let Some(image) = Digest::from_hex(hex).and_then(|id| self.images.get(&id)) {
            return Some(image);
        }
        let reference: Reference = name.parse().ok()?;
        let name = match reference.digest() {
            Some(digest) => reference.with_digest(digest),
            None => reference.tagged()?,
        };
        self.images.get(self.names.get(&name)?)
    }
}

/// An image and its record.
#[derive(Debug)]
struct Entry {
    record: ImageRecord,
    image: Arc<Image>,
}

/// A layer and how long it may stay without an image.
#[derive(Debug)]
struct Layer {
    record: Arc<LayerRecord>,
    keep_until: Option<Instant>,
}

/// Everything in the store.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    images: BTreeMap<Digest, Entry>,
    layers: HashMap<Digest, Layer>,
}

impl Catalog {
    /// Adds or replaces an image together with its record, which agree.
    /// Pins the images whose records are to be, and no others.
    pub(crate) fn pin(&mut self, is_pinned: impl Fn(&ImageRecord) -> bool) {
        for Entry { record, image } in self.images.values_mut() {
            let pinned = is_pinned(record);
            if image.pinned != pinned {
                Arc::make_mut(image).pinned = pinned;
            }
        }
    }

    pub(crate) fn put_image(&mut self, record: ImageRecord, image: Arc<Image>) {
        for chain_id in &record.layers {
            if let Some(layer) = self.layers.get_mut(chain_id) {
                layer.keep_until = None;
            }
        }
        self.images.insert(record.id, Entry { record, image });
    }

    /// Adds a layer that no image names yet.
    pub(crate) fn put_layer(&mut self, record: LayerRecord, keep_until: Option<Instant>) {
        let record = Arc::new(record);
        self.layers
            .insert(record.chain_id, Layer { record, keep_until });
    }

    pub(crate) fn record(&self, id: Digest) -> Option<&ImageRecord> {
        self.images.get(&id).map(|entry| &entry.record)
    }

    pub(crate) fn image(&self, id: Digest) -> Option<Arc<Image>> {
        self.images.get(&id).map(|entry| entry.image.clone())
    }

    pub(crate) fn layer(&self, chain_id: Digest) -> Option<&LayerRecord> {
        self.layers.get(&chain_id).map(|layer| &*layer.record)
    }

    /// Records as they must become when `tags` move to image `id`: those of the images that lose
    /// one.
    pub(crate) fn losing(&self, tags: &BTreeSet<String>, id: Digest) -> Vec<ImageRecord> {
        let others = self.images.values().filter(|entry| entry.record.id != id);
        others
            .filter(|entry| !entry.record.tags.is_disjoint(tags))
            .map(|entry| {
                let mut record = entry.record.clone();
                record.tags.retain(|tag| !tags.contains(tag));
                record
            })
            .collect()
    }

    pub(crate) fn remove_image(&mut self, id: Digest) {
        self.images.remove(&id);
    }

    pub(crate) fn remove_layer(&mut self, chain_id: Digest) {
        self.layers.remove(&chain_id);
    }

    /// Hidden images that nobody holds.
    pub(crate) fn unheld(&self, is_held: impl Fn(Digest) -> bool) -> Vec<Digest> {
        let hidden = self.images.values().filter(|entry| entry.record.removed);
        hidden
            .map(|entry| entry.record.id)
            .filter(|id| !is_held(*id))
            .collect()
    }

    /// Layers that nothing keeps at `now`, uppermost of a chain in no particular order.
    pub(crate) fn unused_layers(
        &self,
        now: Instant,
        is_leased: impl Fn(Digest) -> bool,
    ) -> Vec<Digest> {
        let named = self.named_layers();
        self.layers
            .iter()
            .filter(|(id, layer)| {
                !named.contains(id)
                    && layer.keep_until.is_none_or(|until| until <= now)
                    && !is_leased(**id)
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// Gives a layer that no image names another grace, if it is still here.
    pub(crate) fn prolong(&mut self, chain_id: Digest, until: Instant) {
        if let Some(layer) = self.layers.get_mut(&chain_id) {
            layer.keep_until = Some(until);
        }
    }

    /// Layers that no image names.
    pub(crate) fn unnamed_layers(&self) -> Vec<Digest> {
        let named = self.named_layers();
        let all = self.layers.keys().copied();
        all.filter(|id| !named.contains(id)).collect()
    }

    fn named_layers(&self) -> HashSet<Digest> {
        self.images
            .values()
            .flat_map(|entry| entry.record.layers.iter().copied())
            .collect()
    }

    /// Every image, also those that are hidden.
    pub(crate) fn image_ids(&self) -> impl Iterator<Item = Digest> {
        self.images.keys().copied()
    }

    /// When the next layer's grace ends.
    pub(crate) fn next_end_of_grace(&self) -> Option<Instant> {
        self.layers
            .values()
            .filter_map(|layer| layer.keep_until)
            .min()
    }

    /// What readers shall see.
    pub(crate) fn view(&self) -> View {
        let mut view = View::default();
        for Entry { record, image } in self.images.values().filter(|e| !e.record.removed) {
            view.images.insert(record.id, image.clone());
            let names = record.tags.iter().chain(&record.digests);
            view.names
                .extend(names.map(|name| (name.clone(), record.id)));
        }
        for (id, layer) in &self.layers {
            view.usage.bytes += layer.record.bytes;
            view.usage.inodes += layer.record.inodes;
            view.layers.insert(*id, layer.record.clone());
        }
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageConfig;
    use std::time::Duration;

    fn layer(name: &str) -> LayerRecord {
        let id = Digest::of(name.as_bytes());
        LayerRecord {
            version: 1,
            chain_id: id,
            diff_id: id,
            bytes: 4096,
            inodes: 2,
            opaque: false,
        }
    }

    fn put(catalog: &mut Catalog, name: &str, tags: &[&str], layers: &[&LayerRecord]) -> Digest {
        let id = Digest::of(name.as_bytes());
        let record = ImageRecord {
            version: 1,
            id,
            tags: tags.iter().map(|t| t.to_string()).collect(),
            digests: BTreeSet::new(),
            layers: layers.iter().map(|l| l.chain_id).collect(),
            removed: false,
            signatures: Vec::new(),
        };
        let image = Image {
            id,
            repo_tags: record.tags.iter().cloned().collect(),
            repo_digests: Vec::new(),
            size: 1,
            config: ImageConfig::default(),
            layers: Vec::new(),
            pinned: false,
            signatures: Vec::new(),
        };
        catalog.put_image(record, Arc::new(image));
        id
    }

    #[test]
    fn found_by_every_kind_of_name() {
        let mut catalog = Catalog::default();
        let id = put(
            &mut catalog,
            "a",
            &["docker.io/library/busybox:latest"],
            &[],
        );
        let view = catalog.view();
        for name in [
            &id.to_string(),
            &id.hex(),
            "busybox",
            "docker.io/busybox:latest",
        ] {
            assert_eq!(view.find(name).unwrap().id, id, "{name}");
        }
        for name in ["", "busybox:1", &id.hex()[..63], "sha256:x"] {
            assert!(view.find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_tag_moves_and_its_old_image_stays() {
        let mut catalog = Catalog::default();
        let old = put(&mut catalog, "old", &["r.io/x:1", "r.io/x:2"], &[]);
        let tags = BTreeSet::from(["r.io/x:1".to_owned()]);
        let losing = catalog.losing(&tags, Digest::of(b"new"));
        assert_eq!(losing.len(), 1);
        assert_eq!((losing[0].id, losing[0].tags.len()), (old, 1));
        assert!(catalog.losing(&tags, old).is_empty());
    }

    #[test]
    fn a_layer_stays_for_image_lease_or_grace() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let (named, graced, leased, unused) = (
            layer("named"),
            layer("graced"),
            layer("leased"),
            layer("unused"),
        );
        let mut catalog = Catalog::default();
        catalog.put_layer(named.clone(), Some(now));
        catalog.put_layer(graced.clone(), Some(later));
        catalog.put_layer(leased.clone(), None);
        catalog.put_layer(unused.clone(), None);
        put(&mut catalog, "image", &[], &[&named]);
        let is_leased = |id| id == leased.chain_id;
        assert_eq!(catalog.unused_layers(now, is_leased), [unused.chain_id]);
        assert_eq!(catalog.unused_layers(later, is_leased).len(), 2);
        assert_eq!(catalog.next_end_of_grace(), Some(later));
        assert_eq!(
            catalog.view().usage,
            Usage {
                bytes: 4 * 4096,
                inodes: 8
            }
        );
    }

    #[test]
    fn a_hidden_image_is_not_seen_and_keeps_its_layers() {
        let mut catalog = Catalog::default();
        let below = layer("below");
        catalog.put_layer(below.clone(), None);
        let id = put(&mut catalog, "image", &["r.io/x:1"], &[&below]);
        let mut record = catalog.record(id).unwrap().clone();
        record.removed = true;
        let image = catalog.images[&id].image.clone();
        catalog.put_image(record, image);
        assert!(catalog.view().find("r.io/x:1").is_none());
        assert!(catalog.unused_layers(Instant::now(), |_| false).is_empty());
        assert!(catalog.unheld(|_| true).is_empty());
        assert_eq!(catalog.unheld(|_| false), [id]);
    }
}
