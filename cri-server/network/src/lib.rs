//! Pod networks: a CNI client.
//!
//! Map: [`Cni`] is the whole interface. `directory` chooses a configuration and `network` parses
//! it; `watch` keeps both current; `request` writes what a plugin is given, `plugin` runs it,
//! `result` reads what it answers; `chain` runs a network's plugins one after the other; `cache`
//! keeps what is attached; [`files`] renders resolv.conf, hosts and hostname.
//!
//! Invariants:
//! - A record is on disk before the first plugin runs and until the last one has detached, so
//!   whatever the daemon dies of, nothing is attached that [`Cni::cached`] does not list.
//! - A pod is detached with the configuration it was attached with.
//! - [`Cni::status`] does no I/O and waits for nothing.
//! - GC never runs beside ADD or DEL (the specification's section 3 forbids it); operations of
//!   different pods run in parallel; operations of one pod are serialised by the caller.
//!
//! A plugin costs one spawn, without fork, and two pipes; finding its binary and the fixed part
//! of its request are done once, when the configuration is read.

#![forbid(unsafe_code)]

mod cache;
mod capture;
mod chain;
mod directory;
mod error;
pub mod files;
mod network;
mod plugin;
mod pod;
mod request;
mod result;
mod version;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::fs::statfs;
use serde_json::Value;
use tokio::sync::RwLock;
use tokio::task::AbortHandle;

use cache::{Cache, Record};
use chain::Chain;
use network::Network;
use plugin::Launcher;
use watch::{Host, View};

pub use cache::CacheError;
pub use error::Error;
pub use plugin::PluginError;
pub use pod::{Attachment, Dns, INTERFACE, NetworkStatus, Pod, PortMapping, Protocol};
pub use request::{BadPod, Verb};
pub use result::parse as parse_result;
pub use result::{BadCidr, Cidr, Interface, Ip, Resolver, ResultError, Route, Success};
pub use version::{UnknownVersion, Version};

/// File system type of network namespaces (linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Where things are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of network configurations.
    pub conf_dir: PathBuf,
    /// Directories of plugins, searched in order; `CNI_PATH`.
    pub bin_dirs: Vec<PathBuf>,
    /// Directory of the attachment records, made when missing.
    pub cache_dir: PathBuf,
    /// Longest time one plugin may run.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            cache_dir: "/var/lib/skiff/cni".into(),
            timeout: Duration::from_secs(120),
        }
    }
}

/// The CNI client. Clones share everything.
#[derive(Debug, Clone)]
pub struct Cni(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    host: Arc<Host>,
    cache: Cache,
    /// Shared by ADD and DEL, exclusive for the plugins' GC.
    gate: RwLock<()>,
    /// Pods this process has attached: they have an owner, so GC leaves them alone whatever its
    /// caller knew when it made its list.
    owned: Mutex<BTreeSet<String>>,
    watcher: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Cni {
    /// Opens the cache, reads the configuration and keeps watching it. Only the cache can fail:
    /// a missing or invalid configuration is what [`Cni::status`] is for.
    ///
    /// Must be called within a tokio runtime.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let cache = Cache::open(&settings.cache_dir)?;
        let launcher = Launcher::new(&settings.bin_dirs, std::env::vars_os());
        let host = Arc::new(Host {
            timeout: ArcSwap::from_pointee(settings.timeout),
            settings,
            launcher,
            view: ArcSwap::from_pointee(View::default()),
        });
        watch::refresh(&host);
        let watcher = tokio::spawn(watch::follow(Arc::clone(&host))).abort_handle();
        let (gate, owned) = (RwLock::new(()), Mutex::default());
        Ok(Self(Arc::new(Inner {
            host,
            cache,
            gate,
            owned,
            watcher,
        })))
    }

    /// Changes the longest time of a plugin, from the next one on.
    pub fn set_timeout(&self, timeout: Duration) {
        self.0.host.timeout.store(Arc::new(timeout));
    }

    /// Whether pods can be given a network now. No I/O.
    pub fn status(&self) -> Arc<NetworkStatus> {
        Arc::clone(&self.0.host.view.load().status)
    }

    /// Attaches a pod to the current network. When that fails, everything is undone. When undoing
    /// fails too, or the returned future is dropped, the record stays, for [`Cni::teardown`] or
    /// [`Cni::gc`].
    pub async fn setup(&self, pod: &Pod) -> Result<Attachment, Error> {
        request::validate(pod)?;
        let _gate = self.0.gate.read().await;
        let not_ready = || Error::NotReady(self.status().message.clone());
        let network = self.network().ok_or_else(not_ready)?;
        let mut record = Record {
            pod: pod.clone(),
            network,
            result: None,
        };
        let claim = Claim::new(self, &pod.id);
        let attachment = self.attach(&mut record).await?;
        claim.keep();
        Ok(attachment)
    }

    /// Detaches a pod. `netns` is where its network namespace is bound now; `None` means where it
    /// was at setup. With the namespace gone, plugins release what they hold outside of it.
    /// Succeeds when the pod is not attached.
    pub async fn teardown(&self, pod_id: &str, netns: Option<&Path>) -> Result<(), Error> {
        let _gate = self.0.gate.read().await;
        self.detach(pod_id, netns).await?;
        self.owned().remove(pod_id);
        Ok(())
    }

    /// Asks the plugins whether a pod is attached as it should be. A network that cannot be asked
    /// (before 0.4.0, or with `disableCheck`) is believed.
    pub async fn check(&self, pod_id: &str) -> Result<(), Error> {
        let unattached = || Error::Unattached(pod_id.to_owned());
        let record = self.read(pod_id)?.ok_or_else(unattached)?;
        let result = record.result.as_ref().ok_or_else(unattached)?;
        self.chain(&record.network).check(&record.pod, result).await
    }

    /// Detaches every recorded pod that is not in `valid`, then has the current network's plugins
    /// (from 1.1.0 on) forget what no record names. Pods set up by this process are valid. A network
    /// that another runtime attaches pods to, too, must say `disableGC`, as the specification has
    /// it: its plugins would forget that one's.
    pub async fn gc(&self, valid: &[String]) -> Result<(), Error> {
        let mut keep: BTreeSet<String> = valid.iter().cloned().collect();
        let mut errors = Vec::new();
        for id in self.0.cache.ids()? {
            // A DEL like any other: pods come and go beside it, however long it takes.
            let _gate = self.0.gate.read().await;
            if keep.contains(&id) || self.owned().contains(&id) {
                continue;
            }
            if let Err(error) = self.detach(&id, None).await {
                errors.push(error);
                // Still attached in part: what it holds is not for the plugins to forget.
                keep.insert(id);
            }
        }
        let _gate = self.0.gate.write().await;
        keep.extend(self.owned().iter().cloned());
        if let Some(network) = self.network() {
            errors.extend(self.chain(&network).gc(&keep).await);
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Error::Several(errors))
        }
    }

    /// Ids of all pods with a record, attached or half attached, sorted.
    pub fn cached(&self) -> Result<Vec<String>, Error> {
        Ok(self.0.cache.ids()?)
    }

    /// What the last plugin answered when the pod was attached, as it answered it; `None` for a
    /// pod that is not attached. Reads a file.
    pub fn result(&self, pod_id: &str) -> Result<Option<Value>, Error> {
        Ok(self.read(pod_id)?.and_then(|record| record.result))
    }

    async fn attach(&self, record: &mut Record) -> Result<Attachment, Error> {
        self.detach(&record.pod.id, None).await?;
        self.0.cache.write(record)?;
        match self.add(record).await {
            Ok(attachment) => Ok(attachment),
            Err(cause) => match self.release(record, &record.pod.netns).await {
                Ok(()) => Err(cause),
                Err(undo) => Err(Error::NotUndone {
                    cause: Box::new(cause),
                    undo: Box::new(undo),
                }),
            },
        }
    }

    async fn add(&self, record: &mut Record) -> Result<Attachment, Error> {
        let (success, document) = self.chain(&record.network).add(&record.pod).await?;
        record.result = Some(document);
        let network = record.network.name.clone();
        let ips = success.pod_ips(INTERFACE);
        if ips.is_empty() {
            return Err(Error::NoAddress(network));
        }
        self.0.cache.write(record)?;
        Ok(Attachment {
            network,
            ips,
            result: success,
        })
    }

    async fn detach(&self, pod_id: &str, netns: Option<&Path>) -> Result<(), Error> {
        let record = match self.read(pod_id) {
            Ok(None) => return Ok(()),
            Ok(Some(record)) => record,
            Err(Error::Cache(corrupt @ CacheError::Corrupt { .. })) => {
                self.substitute(pod_id, corrupt)?
            }
            Err(error) => return Err(error),
        };
        self.release(&record, netns.unwrap_or(&record.pod.netns))
            .await
    }

    async fn release(&self, record: &Record, netns: &Path) -> Result<(), Error> {
        let chain = self.chain(&record.network);
        chain
            .del(&record.pod, live_netns(netns), record.result.as_ref())
            .await?;
        Ok(self.0.cache.remove(&record.pod.id)?)
    }

    /// A record in place of an unreadable one: the current network, and of the pod its id, which
    /// is what plugins find their leases and rules by.
    fn substitute(&self, pod_id: &str, record: CacheError) -> Result<Record, Error> {
        let Some(network) = self.network() else {
            return Err(Error::Orphan {
                record,
                reason: self.status().message.clone(),
            });
        };
        tracing::warn!(%record, network = network.name, "detaching by the current network");
        let pod = Pod {
            id: pod_id.to_owned(),
            ..Pod::default()
        };
        Ok(Record {
            pod,
            network,
            result: None,
        })
    }

    fn read(&self, pod_id: &str) -> Result<Option<Record>, Error> {
        if !network::valid_identifier(pod_id) {
            return Err(BadPod::Id(pod_id.to_owned()).into());
        }
        Ok(self.0.cache.read(pod_id)?)
    }

    fn network(&self) -> Option<Arc<Network>> {
        self.0.host.view.load().network.clone()
    }

    fn chain<'a>(&'a self, network: &'a Network) -> Chain<'a> {
        let host = &self.0.host;
        Chain {
            launcher: &host.launcher,
            network,
            limit: **host.timeout.load(),
        }
    }

    fn owned(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ownership of a pod while it is being attached, given up when that fails or is abandoned.
struct Claim<'a> {
    cni: &'a Cni,
    pod_id: &'a str,
}

impl<'a> Claim<'a> {
    fn new(cni: &'a Cni, pod_id: &'a str) -> Self {
        cni.owned().insert(pod_id.to_owned());
        Self { cni, pod_id }
    }

    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.cni.owned().remove(self.pod_id);
    }
}

/// The path, if a namespace is bound there: plugins fail on a path to anything else.
fn live_netns(path: &Path) -> Option<&Path> {
    let bound = statfs(path).is_ok_and(|fs| fs.f_type.cast_unsigned() == NSFS_MAGIC);
    bound.then_some(path)
}
