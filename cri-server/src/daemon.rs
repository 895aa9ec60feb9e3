//! The daemon as a whole: what all RPCs share, and how it starts and ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustix::fs::{FlockOperation, flock};
use skiff_cdi::Cdi;
use skiff_cni::Cni;
use skiff_config::Config;
use skiff_image::Store as ImageStore;
use skiff_signature::Policies;
use skiff_spec::{HostFeatures, SeLinux};
use skiff_streaming::Server as Streaming;
use tokio::sync::watch;

use crate::cgroup_driver::Driver;
use crate::container::image::Images;
use crate::container::resources::Limits;
use crate::container::users::Users;
use crate::events::Events;
use crate::handler::Handlers;
use crate::host::{Host, cgroup};
use crate::layout::Layout;
use crate::profile::seccomp::Programs;
use crate::selinux::PairsInUse;
use crate::shim::spawn::Spawn;
use crate::shim::{Pool, ShimError};
use crate::stats::Stats;
use crate::store::Store;
use crate::telemetry::{Telemetry, TraceError};

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host cannot run pods.
    #[error("this host has no cgroup v2 hierarchy to use: {0}")]
    Cgroups(String),
    /// Another daemon works in the same directory.
    #[error("another skiffd is using {}", .0.display())]
    Locked(PathBuf),
    /// The file system refused.
    #[error("{action} {}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: std::io::Error,
    },
    /// No shim can be started.
    #[error(transparent)]
    Shim(#[from] ShimError),
    /// The image store cannot be opened.
    #[error("open the image store")]
    Images(#[from] skiff_image::StoreError),
    /// The signature policy for all namespaces cannot be used.
    #[error(transparent)]
    Signatures(#[from] skiff_signature::PolicyError),
    /// The CNI cache cannot be opened.
    #[error("open the network state")]
    Network(#[from] skiff_cni::Error),
    /// The streaming server cannot be started.
    #[error("start the streaming server")]
    Streaming(#[from] skiff_streaming::ServerError),
    /// No traces can be made.
    #[error(transparent)]
    Tracing(#[from] TraceError),
    /// The configuration asks for what a specification cannot say.
    #[error("configuration of containers")]
    Defaults(#[from] skiff_spec::SpecError),
}

/// What all RPCs share.
pub struct Daemon {
    /// The configuration that holds.
    pub config: ArcSwap<Config>,
    /// Where things are.
    pub layout: Layout,
    /// Names the boot that processes belong to.
    pub boot_id: String,
    /// Root of the cgroup hierarchy.
    pub cgroup_root: PathBuf,
    /// Who makes pods' cgroups.
    pub cgroup_driver: Driver,
    /// What containers' specifications depend on.
    pub features: HostFeatures,
    /// What runtime handlers stand for.
    pub handlers: ArcSwap<Handlers>,
    /// Images, as containers need them.
    pub images: Arc<dyn Images>,
    /// Whose signatures images need.
    pub signatures: Arc<Policies>,
    /// Users of images.
    pub users: Users,
    /// Compiled seccomp profiles.
    pub seccomp: Programs,
    /// Pairs of SELinux categories that pods have.
    pub pairs: PairsInUse,
    /// Networks.
    pub cni: Cni,
    /// Devices that vendors describe.
    pub cdi: ArcSwap<Cdi>,
    /// Where clients come for exec, attach and port forwarding.
    pub streaming: Streaming,
    /// Spare shims.
    pub pool: Pool,
    /// Run directories of shims that were there before ours.
    pub earlier_shims: Vec<PathBuf>,
    /// All pods.
    pub store: Store,
    /// What is told of the daemon's work.
    pub telemetry: Arc<Telemetry>,
    /// What happens to them.
    pub events: Events,
    /// What they use.
    pub stats: Stats,
    /// The limits that hold for containers.
    pub limits: Arc<Limits>,
    /// Whether the pods of an earlier daemon are all back.
    pub recovered: watch::Sender<bool>,
}

impl Daemon {
    /// Puts the parts together. Needs a tokio runtime.
    pub fn new(
        config: Config,
        layout: Layout,
        host: &Host,
        images: Arc<dyn Images>,
        spawner: Arc<dyn Spawn>,
    ) -> Result<Self, StartError> {
        let cni = Cni::open(skiff_cni::Settings {
            conf_dir: config.network.conf_dir.clone(),
            bin_dirs: config.network.bin_dirs.clone(),
            cache_dir: config.root.join("cni"),
            timeout: config.network.plugin_timeout.duration(),
        })?;
        let mut features = host.features();
        if !config.runtime.selinux {
            features.selinux = SeLinux::Disabled;
        }
        let handlers = Handlers::new(&config, &features)?;
        // Looked at before the pool makes its own.
        let earlier_shims = list(&layout.shims())?;
        let pool = Pool::new(spawner, layout.shims(), config.runtime.spare_shims);
        Ok(Self {
            boot_id: boot_id()?,
            cgroup_root: cgroup::ROOT.into(),
            cgroup_driver: Driver::new(config.cgroup_driver),
            features,
            handlers: ArcSwap::from_pointee(handlers),
            images,
            signatures: Arc::new(Policies::open(signature_settings(&config))?),
            users: Users::default(),
            seccomp: Programs::new(host.kernel),
            pairs: PairsInUse::default(),
            cni,
            cdi: ArcSwap::from_pointee(Cdi::new(config.cdi.dirs.clone())),
            streaming: Streaming::start(&streaming_settings(&config))?,
            pool,
            earlier_shims,
            store: Store::default(),
            telemetry: Arc::new(Telemetry::new(crate::grpc::methods(), &config.tracing)?),
            events: Events::default(),
            stats: Stats::default(),
            limits: Arc::default(),
            recovered: watch::Sender::new(false),
            config: ArcSwap::from_pointee(config),
            layout,
        })
    }

    /// Waits until the pods of an earlier daemon are all back: a list that lacks some would make
    /// a kubelet believe that they are gone.
    pub async fn ready(&self) {
        if *self.recovered.borrow() {
            return;
        }
        // The sender is part of this.
        let _ = self
            .recovered
            .subscribe()
            .wait_for(|recovered| *recovered)
            .await;
    }
}

fn streaming_settings(config: &Config) -> skiff_streaming::Settings {
    let skiff_config::Streaming {
        address,
        certificate,
        key,
        client_ca,
        idle_timeout,
    } = &config.streaming;
    let tls = certificate.clone().zip(key.clone());
    skiff_streaming::Settings {
        address: *address,
        tls: tls.map(|(certificate, key)| skiff_streaming::Tls {
            certificate,
            key,
            client_ca: client_ca.clone(),
        }),
        timeouts: skiff_streaming::Timeouts {
            idle: idle_timeout.duration(),
            ..skiff_streaming::Timeouts::default()
        },
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, StartError> {
    let failed = |source| StartError::File {
        action: "list",
        path: dir.into(),
        source,
    };
    let entries = std::fs::read_dir(dir).map_err(failed)?;
    entries
        .map(|entry| Ok(entry.map_err(failed)?.path()))
        .collect()
}

fn boot_id() -> Result<String, StartError> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    match std::fs::read_to_string(PATH) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(StartError::File {
            action: "read",
            path: PATH.into(),
            source,
        }),
    }
}

/// Where the signature policies of a configuration are; what [`Policies::reload`] wants of a new one.
pub fn signature_settings(config: &Config) -> skiff_signature::Settings {
    skiff_signature::Settings {
        policy: config.image.signature_policy.clone(),
        dir: config.image.signature_policy_dir.clone(),
    }
}

/// What the image store is told of a configuration.
pub fn image_settings(config: &Config) -> skiff_image::Settings {
    skiff_image::Settings {
        certs_dir: config.image.config_path.clone(),
        pinned: config.image.pinned.clone(),
        parallel_layers: config.image.parallel_layers.get(),
        progress_timeout: config.image.progress_timeout.duration(),
        max_layer_bytes: config.image.max_layer_size.bytes(),
        ..skiff_image::Settings::default()
    }
}

/// Opens the image store of a configuration.
pub fn open_images(config: &Config) -> Result<Arc<ImageStore>, StartError> {
    Ok(ImageStore::open(&config.root, image_settings(config))?)
}

/// How long the lock of a daemon that is gone may outlive it.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// How often the lock is looked at meanwhile.
const LOCK_LOOK: Duration = Duration::from_millis(5);

/// The right to work in a directory, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock file in `dir`, which is made.
    pub fn take(dir: &Path) -> Result<Self, StartError> {
        let path = dir.join("lock");
        let failed = |action, path: &Path| {
            let path = path.to_path_buf();
            move |source| StartError::File {
                action,
                path,
                source,
            }
        };
        std::fs::create_dir_all(dir).map_err(failed("make directory", dir))?;
        let file = File::create(&path).map_err(failed("open", &path))?;
        // A child that a killed daemon was just starting holds the lock until it has executed.
        let give_up = Instant::now() + LOCK_PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < give_up => {
                    std::thread::sleep(LOCK_LOOK);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(StartError::Locked(dir.into())),
                Err(e) => return Err(failed("lock", &path)(e.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_for_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let error = Lock::take(dir.path()).unwrap_err();
        assert!(
            matches!(&error, StartError::Locked(path) if path == dir.path()),
            "{error}"
        );
        drop(lock);
        Lock::take(dir.path()).unwrap();
    }
}
