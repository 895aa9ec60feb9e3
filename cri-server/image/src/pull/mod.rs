//! Pulling an image: from a reference to a committed record.
//!
//! ```text
//! resolve ─> manifest ─> signatures ─> configuration ─> layers, all at once ─> flush ─> commit
//!    └── known digest ───────────────────────────────────────────────────────────> name it
//!
//! layer:  wait for a place ─> download + unpack ─> layer below is done ─> graft ─> add
//! ```

mod error;
mod signatures;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use error::PullError;
use futures_util::future::try_join_all;
pub use signatures::SignatureError;
use skiff_reference::Digest;
use skiff_signature::Policy;
use tokio::sync::{Semaphore, mpsc};

use crate::auth::Auth;
use crate::error::StoreError;
use crate::flight::{Flight, Flights};
use crate::image::Image;
use crate::keeper::{Change, Commit};
use crate::layer::{self, Blob, LayerError, Limits, Scratch, Unpacked};
use crate::layout::{LayerRecord, VERSION, chain};
use crate::manifest::{self, ConfigFile, Descriptor, Document, Manifest, ManifestError};
use crate::registry::{Fetched, Patience, Registry, RegistryError};
use crate::store::Store;
use crate::usage::Lease;
use skiff_reference::Reference;

/// An index may point to an index; further than this nobody goes.
const MAX_INDEXES: usize = 3;

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The image's name as the user wrote it.
    pub reference: String,
    /// Credentials, if the kubelet has any.
    pub auth: Option<Auth>,
    /// Whose signatures it needs; `None`: nobody's.
    pub policy: Option<Arc<Policy>>,
}

/// What makes two pulls one. Who has no credentials must not profit from another's, and what
/// passes under one policy need not under another, which its id stands for.
type Key = (Reference, Option<Auth>, Option<Digest>);

/// Pulls under way.
#[derive(Debug)]
pub(crate) struct Pulls {
    images: Flights<Key, Result<Arc<Image>, PullError>>,
    /// By chain id.
    layers: Flights<Digest, Result<(), PullError>>,
    places: Semaphore,
    /// Bytes of layers that were downloaded.
    downloaded: AtomicU64,
}

impl Pulls {
    pub(crate) fn new(parallel_layers: usize) -> Self {
        Self {
            images: Flights::default(),
            layers: Flights::default(),
            places: Semaphore::new(parallel_layers.max(1)),
            downloaded: AtomicU64::new(0),
        }
    }
}

impl Store {
    /// Bytes of layers that were downloaded since the store was opened.
    pub fn downloaded(&self) -> u64 {
        self.pulls.downloaded.load(Ordering::Relaxed)
    }

    /// Pulls an image. Pulls of the same image and layers are joined. Dropping the future cancels
    /// the pull, unless others wait for it.
    pub async fn pull(self: &Arc<Self>, request: PullRequest) -> Result<Arc<Image>, PullError> {
        let reference: Reference = request.reference.parse()?;
        let policy = request.policy.as_ref().map(|policy| policy.id());
        let key = (reference.clone(), request.auth.clone(), policy);
        let (flight, _) = self.pulls.images.join(key, || {
            let store = self.clone();
            async move {
                let pull = Pull::start(store, reference, request.auth, request.policy)?;
                pull.run().await
            }
        });
        flight.await
    }
}

/// One pull under way.
#[derive(Clone)]
struct Pull {
    store: Arc<Store>,
    reference: Arc<Reference>,
    registry: Arc<Registry>,
    policy: Option<Arc<Policy>>,
}

/// A layer as the documents describe it.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    blob: Blob,
    chain_id: Digest,
}

impl Pull {
    fn start(
        store: Arc<Store>,
        reference: Reference,
        auth: Option<Auth>,
        policy: Option<Arc<Policy>>,
    ) -> Result<Self, PullError> {
        let settings = store.settings();
        let patience = Patience {
            progress: settings.progress_timeout,
            backoff: settings.retry_backoff,
            retry_after: settings.max_retry_after,
        };
        let reference = Arc::new(reference);
        let registry =
            Registry::new(&reference, auth, &settings.certs_dir, patience).map_err(|e| {
                PullError::Hosts {
                    image: reference.clone(),
                    source: Arc::new(e),
                }
            })?;
        Ok(Self {
            store,
            registry: Arc::new(registry),
            reference,
            policy,
        })
    }

    async fn run(self) -> Result<Arc<Image>, PullError> {
        let needs_signatures = self.needs_signatures()?;
        let target = self.reference.target();
        if let Some(image) = self.known(&target).await? {
            return Ok(image);
        }
        let top = self
            .registry
            .manifest(&target)
            .await
            .map_err(self.registry_error())?;
        let (manifest, json) = self.manifest(&top).await?;
        let signatures = match needs_signatures {
            true => self.signatures(&[top.digest, Digest::of(&json)]).await?,
            false => Vec::new(),
        };
        let id = manifest.config.digest;
        let config = self
            .registry
            .config(id)
            .await
            .map_err(self.registry_error())?;
        let file = manifest::parse_config(&config, manifest.layers.len())
            .map_err(self.manifest_error())?;
        let wanted = wanted(&manifest, &file);
        let _leases = self.layers(&wanted).await?;
        if self.store.image(&id.to_string()).is_none() {
            self.flush().await?;
        }
        let commit = Commit {
            id,
            tag: self.reference.tagged(),
            digest: self.reference.with_digest(top.digest),
            layers: wanted.iter().map(|layer| layer.chain_id).collect(),
            config: config.to_vec(),
            manifest: json,
            signatures,
        };
        let change = |done| Change::Commit {
            commit: Box::new(commit),
            done,
        };
        self.store.change(change).await.map_err(self.store_error())
    }

    /// The image, if a registry says that the target is what we have already, with the signatures
    /// that it needs. This costs no download, and hubs do not count it as one.
    async fn known(&self, target: &str) -> Result<Option<Arc<Image>>, PullError> {
        let resolved = self
            .registry
            .resolve(target)
            .await
            .map_err(self.registry_error())?;
        let Some(digest) = resolved else {
            return Ok(None);
        };
        let name = self.reference.with_digest(digest);
        let Some(image) = self.store.image(&name).filter(|image| self.admits(image)) else {
            return Ok(None);
        };
        let Some(tag) = self.reference.tagged() else {
            return Ok(Some(image));
        };
        let change = |done| Change::Tag {
            id: image.id,
            tag,
            done,
        };
        self.store.change(change).await.map_err(self.store_error())
    }

    /// The manifest for this machine, through an index if need be.
    async fn manifest(&self, top: &Fetched) -> Result<(Manifest, Vec<u8>), PullError> {
        let mut json = top.json.clone();
        for _ in 0..=MAX_INDEXES {
            let document = manifest::parse_document(&json).map_err(self.manifest_error())?;
            let manifests = match document {
                Document::Manifest(manifest) => return Ok((manifest, json.to_vec())),
                Document::Index(manifests) => manifests,
            };
            let chosen = manifest::choose(&manifests).map_err(self.manifest_error())?;
            let target = chosen.digest.to_string();
            json = self
                .registry
                .manifest(&target)
                .await
                .map_err(self.registry_error())?
                .json;
        }
        let reason = format!("more than {MAX_INDEXES} indexes in a row");
        Err(self.manifest_error()(ManifestError::Inconsistent(reason)))
    }

    /// Gets every layer. The leases keep them until they are named by a record.
    async fn layers(&self, wanted: &[Wanted]) -> Result<Vec<Lease>, PullError> {
        let leases = wanted
            .iter()
            .map(|l| self.store.uses.lease(l.chain_id))
            .collect();
        self.check_space(wanted)?;
        match self.fly(wanted).await {
            // Somebody else's flight failed, perhaps for reasons that are not ours.
            Err((_, true)) => self.fly(wanted).await.map_err(|(e, _)| e)?,
            outcome => outcome.map_err(|(e, _)| e)?,
        }
        Ok(leases)
    }

    /// Flies all layers that are missing; an error says whether any flight was another pull's.
    async fn fly(&self, wanted: &[Wanted]) -> Result<(), (PullError, bool)> {
        let mut flights: Vec<Flight<Result<(), PullError>>> = Vec::new();
        let mut any_joined = false;
        let mut below: Option<Flight<Result<(), PullError>>> = None;
        for (i, layer) in wanted.iter().enumerate() {
            if self.store.layer(layer.chain_id).is_some() {
                below = None;
                continue;
            }
            let (flight, joined) = self.store.pulls.layers.join(layer.chain_id, || {
                let (pull, layer, below) = (self.clone(), *layer, below.clone());
                let under = wanted[..i].iter().map(|l| l.chain_id).collect();
                async move { pull.layer(layer, below, under).await }
            });
            any_joined |= joined;
            below = Some(flight.clone());
            flights.push(flight);
        }
        try_join_all(flights)
            .await
            .map(drop)
            .map_err(|e| (e, any_joined))
    }

    /// Downloads and unpacks a layer and adds it to the store, after `below`. `under` are the
    /// chain ids of all lower layers, lowest first.
    async fn layer(
        self,
        layer: Wanted,
        below: Option<impl Future<Output = Result<(), PullError>>>,
        under: Vec<Digest>,
    ) -> Result<(), PullError> {
        let mut unpacked = self.fetch(layer.blob).await?;
        if let Some(below) = below {
            below.await?;
        }
        let is_opaque = |id| self.store.layer(id).is_some_and(|layer| layer.opaque);
        let mut dirs = self.store.layout.stack(&under, is_opaque);
        if unpacked.extracted.opaque {
            dirs.clear();
        }
        let limits = self.limits();
        let grafted = tokio::task::spawn_blocking(move || {
            let Unpacked { scratch, extracted } = &mut unpacked;
            layer::graft(&scratch.fs(), extracted, &dirs, limits)?;
            Ok(unpacked)
        });
        let Unpacked { scratch, extracted } =
            joined(grafted.await).map_err(self.layer_error(layer.blob.digest))?;
        let record = LayerRecord {
            version: VERSION,
            chain_id: layer.chain_id,
            diff_id: layer.blob.diff_id,
            bytes: extracted.bytes,
            inodes: extracted.inodes,
            opaque: extracted.opaque,
        };
        let dir = scratch.finish().map_err(self.store_error())?;
        let change = |done| Change::AddLayer { record, dir, done };
        self.store.change(change).await.map_err(self.store_error())
    }

    /// Downloads and unpacks a blob.
    async fn fetch(&self, blob: Blob) -> Result<Unpacked, PullError> {
        let _place = self
            .store
            .pulls
            .places
            .acquire()
            .await
            .map_err(|_| self.store_error()(StoreError::Closed))?;
        let scratch =
            Scratch::create(&self.store.layout, &self.store.trash).map_err(self.store_error())?;
        let (sink, chunks) = mpsc::channel(layer::QUEUE);
        let unpacked = layer::unpack(blob, chunks, scratch, self.limits()).map_err(|source| {
            let error = StoreError::io("start a thread for", self.store.dir())(source);
            self.store_error()(error)
        })?;
        self.registry
            .blob(blob.digest, blob.size, sink)
            .await
            .map_err(self.registry_error())?;
        let downloaded = &self.store.pulls.downloaded;
        downloaded.fetch_add(blob.size, Ordering::Relaxed);
        match unpacked.await {
            Ok(outcome) => outcome.map_err(self.layer_error(blob.digest)),
            Err(_) => Err(self.store_error()(StoreError::Closed)),
        }
    }

    fn limits(&self) -> Limits {
        let settings = self.store.settings();
        Limits {
            bytes: settings.max_layer_bytes,
            entries: settings.max_layer_entries,
            reserve: settings.reserve_bytes,
        }
    }

    /// Refuses an image whose layers cannot fit even while they are compressed.
    fn check_space(&self, wanted: &[Wanted]) -> Result<(), PullError> {
        let missing = wanted
            .iter()
            .filter(|l| self.store.layer(l.chain_id).is_none());
        let needed: u64 = missing.map(|l| l.blob.size).fold(0, u64::saturating_add);
        let dir = self.store.dir();
        let fs = rustix::fs::statvfs(dir)
            .map_err(|e| self.store_error()(StoreError::io("look at", dir)(e.into())))?;
        let free = fs.f_bavail.saturating_mul(fs.f_frsize);
        let reserve = self.store.settings().reserve_bytes;
        match wanted.first() {
            Some(layer) if needed > 0 && needed.saturating_add(reserve) > free => {
                let error = LayerError::NoSpace { free, reserve };
                Err(self.layer_error(layer.blob.digest)(error))
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that everything unpacked is on disk before a record says so.
    async fn flush(&self) -> Result<(), PullError> {
        let dir = self.store.dir().to_owned();
        let flushed = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::open(&dir).map_err(StoreError::io("open", &dir))?;
            rustix::fs::syncfs(file).map_err(|e| StoreError::io("flush", &dir)(e.into()))
        });
        joined(flushed.await).map_err(self.store_error())
    }

    fn registry_error(&self) -> impl Fn(RegistryError) -> PullError {
        |e| PullError::Registry {
            image: self.reference.clone(),
            source: Arc::new(e),
        }
    }

    fn manifest_error(&self) -> impl Fn(ManifestError) -> PullError {
        |e| PullError::Manifest {
            image: self.reference.clone(),
            source: Arc::new(e),
        }
    }

    fn layer_error(&self, digest: Digest) -> impl Fn(LayerError) -> PullError {
        move |e| PullError::Layer {
            image: self.reference.clone(),
            digest,
            source: Arc::new(e),
        }
    }

    fn store_error(&self) -> impl Fn(StoreError) -> PullError {
        |e| PullError::Store {
            image: self.reference.clone(),
            source: Arc::new(e),
        }
    }
}

/// Outcome of a blocking task, which is never aborted.
fn joined<T>(outcome: Result<T, tokio::task::JoinError>) -> T {
    outcome.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}

fn wanted(manifest: &Manifest, file: &ConfigFile) -> Vec<Wanted> {
    let mut below = None;
    let pairs = manifest.layers.iter().zip(&file.rootfs.diff_ids);
    pairs
        .map(|(Descriptor { digest, size, .. }, diff_id)| {
            let chain_id = chain(below, *diff_id);
            below = Some(chain_id);
            let blob = Blob {
                digest: *digest,
                size: *size,
                diff_id: *diff_id,
            };
            Wanted { blob, chain_id }
        })
        .collect()
}
