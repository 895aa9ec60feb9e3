//! The store: images by name, holds, removal, and the totals of disk space.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arc_swap::ArcSwap;
use skiff_reference::Digest;
use tokio::sync::oneshot;

use crate::aside::Aside;
use crate::catalog::View;
use crate::error::StoreError;
use crate::image::Image;
use crate::keeper::{Change, Keeper};
use crate::layout::{LayerRecord, Layout};
use crate::load::{self, Loaded};
use crate::merged;
use crate::pin::Pins;
use crate::pull::Pulls;
use crate::snapshot::{Snapshots, Usage};
use crate::trash::Trash;
use crate::usage::Uses;

/// What an administrator may choose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of `<host>/hosts.toml` files; read anew at each pull.
    pub certs_dir: PathBuf,
    /// Images that are reported as pinned: references, or text with `*` at its start or end.
    pub pinned: Vec<String>,
    /// Layers downloaded and unpacked at the same time, over all pulls.
    pub parallel_layers: usize,
    /// A pull that receives nothing for this long is aborted.
    pub progress_timeout: Duration,
    /// Wait before a request that failed is sent again; doubled for each further attempt.
    pub retry_backoff: Duration,
    /// Longest wait that a registry may ask for.
    pub max_retry_after: Duration,
    /// Most bytes that one layer may unpack to.
    pub max_layer_bytes: u64,
    /// Most files, directories and links in one layer.
    pub max_layer_entries: u64,
    /// Bytes that a pull leaves free on the file system.
    pub reserve_bytes: u64,
    /// How long the finished layers of a failed pull are kept for another attempt.
    pub retry_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            certs_dir: "/etc/skiff/certs.d".into(),
            pinned: Vec::new(),
            parallel_layers: 6,
            progress_timeout: Duration::from_secs(300),
            retry_backoff: Duration::from_millis(500),
            max_retry_after: Duration::from_secs(30),
            max_layer_bytes: 64 << 30,
            max_layer_entries: 5_000_000,
            reserve_bytes: 64 << 20,
            retry_grace: Duration::from_secs(600),
        }
    }
}

/// The images of a node.
#[derive(Debug)]
pub struct Store {
    settings: ArcSwap<Settings>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) uses: Arc<Uses>,
    pub(crate) trash: Trash,
    pub(crate) pulls: Pulls,
    view: Arc<ArcSwap<View>>,
    changes: mpsc::Sender<Change>,
    snapshots: Snapshots,
}

impl Store {
    /// Opens the store below `root` (`/var/lib/skiff`), and discards what an interrupted pull
    /// left. What containers may run on stays until [`Store::restore_holds`] has been called.
    pub fn open(root: &Path, settings: Settings) -> Result<Arc<Self>, StoreError> {
        let layout = Arc::new(Layout::create(root.join("images"))?);
        let trash = Trash::start()?;
        trash.sweep(&layout.trash())?;
        let tmp = layout.tmp();
        trash.discard(&tmp, &layout.trash())?;
        fs::create_dir(&tmp).map_err(StoreError::io("create directory", &tmp))?;
        let pins = Pins::parse(&settings.pinned)?;
        let mut aside = Aside::open(&layout)?;
        let Loaded { catalog, unread } = load::load(&layout, &pins, &mut aside, &trash)?;
        let view = Arc::new(ArcSwap::from_pointee(catalog.view()));
        let uses = Arc::new(Uses::default());
        let snapshots = Snapshots::open(root.join("snapshots"), trash.clone())?;
        let keeper = Keeper {
            layout: layout.clone(),
            trash: trash.clone(),
            uses: uses.clone(),
            view: view.clone(),
            catalog,
            unread,
            aside,
            pins,
            grace: settings.retry_grace,
            holds_known: false,
        };
        let (changes, receiver) = mpsc::channel();
        std::thread::Builder::new()
            .name("image-keeper".into())
            .spawn(move || keeper.run(&receiver))
            .map_err(StoreError::io("start a thread for", root))?;
        let pulls = Pulls::new(settings.parallel_layers);
        Ok(Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            layout,
            uses,
            trash,
            pulls,
            view,
            changes,
            snapshots,
        }))
    }

    /// What an administrator has chosen.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Takes up other settings, from the next pull on; images are pinned by them at once. The
    /// number of layers at the same time stays as it was. On error everything does.
    pub fn reload(&self, settings: Settings) -> Result<(), StoreError> {
        let pins = Pins::parse(&settings.pinned)?;
        self.settings.store(Arc::new(settings));
        // A closed store has no images to pin.
        let _ = self.changes.send(Change::Pin { pins });
        Ok(())
    }

    /// Finds an image by id (`sha256:` may be missing), tag or repository digest.
    pub fn image(&self, name: &str) -> Option<Arc<Image>> {
        self.view.load().find(name).cloned()
    }

    /// All images, ordered by id.
    pub fn images(&self) -> Vec<Arc<Image>> {
        self.view.load().images.values().cloned().collect()
    }

    /// Disk space of all layers, kept as running totals.
    pub fn usage(&self) -> Usage {
        self.view.load().usage
    }

    /// The directory whose file system holds the images.
    pub fn dir(&self) -> &Path {
        self.layout.root()
    }

    /// The writable layers of containers.
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// The whole configuration of an image, JSON as it was pulled. Reads a file.
    pub fn configuration(&self, image: &Image) -> Result<Vec<u8>, StoreError> {
        let path = self.layout.record(image.id).join("config.json");
        fs::read(&path).map_err(StoreError::io("read", &path))
    }

    /// Reads a regular file of an image as its containers would see it; `None` when there is
    /// none. Links are followed within the image. Longer than `limit` bytes is an error. Reads
    /// files: call it off the async threads.
    pub fn read_file(
        &self,
        image: &Image,
        path: impl AsRef<Path>,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        merged::read_file(&image.layers, path.as_ref(), limit)
    }

    /// Whether an image has anything at a path, links followed within it. Reads directories.
    pub fn has_path(&self, image: &Image, path: impl AsRef<Path>) -> Result<bool, StoreError> {
        merged::exists(&image.layers, path.as_ref())
    }

    /// Removes an image with all its tags, whichever of its names was given. One that does not
    /// exist is fine. Layers that a container holds stay until its release.
    pub async fn remove(&self, name: &str) -> Result<(), StoreError> {
        let Some(image) = self.image(name) else {
            return Ok(());
        };
        self.change(|done| Change::Remove { id: image.id, done })
            .await
    }

    /// Waits until the files of what was removed before are deleted: then their room is free.
    pub async fn deleted(&self) {
        self.trash.emptied().await;
    }

    /// Keeps an image's layers for `holder`, a container's id, until [`Store::release`]. `None`
    /// when there is no such image.
    pub fn hold(&self, holder: &str, name: &str) -> Option<Arc<Image>> {
        let id = self.image(name)?.id;
        self.uses.hold(holder, id);
        let found = self.view.load().images.get(&id).cloned();
        if found.is_none() {
            self.release(holder);
        }
        found
    }

    /// Ends a hold, and those of `<holder>/...`. One that does not exist is fine.
    pub fn release(&self, holder: &str) {
        if self.uses.release(holder) {
            // A closed store has nothing to sweep.
            let _ = self.changes.send(Change::Sweep { holds_known: false });
        }
    }

    /// Says which container (first) uses which image id (second), as their records have it after
    /// a restart. Until this is called no image and no layer is deleted.
    pub fn restore_holds(&self, holds: impl IntoIterator<Item = (String, Digest)>) {
        for (holder, image) in holds {
            self.uses.restore(&holder, image);
        }
        let _ = self.changes.send(Change::Sweep { holds_known: true });
    }

    /// The layer of that chain id, if it is here.
    pub(crate) fn layer(&self, chain_id: Digest) -> Option<Arc<LayerRecord>> {
        self.view.load().layers.get(&chain_id).cloned()
    }

    /// Asks the keeper for a change and waits for its outcome.
    pub(crate) async fn change<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Change,
    ) -> Result<T, StoreError> {
        let (done, outcome) = oneshot::channel();
        self.changes
            .send(make(done))
            .map_err(|_| StoreError::Closed)?;
        outcome.await.map_err(|_| StoreError::Closed)?
    }
}
