//! Reads the configuration again when SIGHUP asks for it.
//!
//! What a running daemon takes up holds for what is made from now on: pods and containers that
//! are there stay as they are. What takes a restart is said, with its place, and stays as it was. Files
//! that cannot be read or meant change nothing.

use std::path::PathBuf;
use std::sync::Arc;

use sd_notify::NotifyState;
use skiff_cdi::Cdi;
use skiff_config::{Config, ConfigError, Loaded, Overrides};
use skiff_image::Store as ImageStore;
use skiff_signature::PolicyError;
use skiff_spec::SpecError;
use tokio::signal::unix::Signal;

use crate::daemon::{Daemon, image_settings, signature_settings};
use crate::handler::Handlers;
use crate::telemetry::{Logging, LoggingError, chain};

/// Where the configuration comes from, and what it is taken up by outside of the daemon.
pub struct Source {
    /// The file; `None`: the usual one.
    pub path: Option<PathBuf>,
    /// Flags, which win over all files.
    pub overrides: Overrides,
    /// The daemon's log.
    pub logging: Logging,
}

/// Why the configuration stays as it was.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("configuration of containers")]
    Defaults(#[from] SpecError),
    #[error(transparent)]
    Signatures(#[from] PolicyError),
    #[error("configuration of images")]
    Images(#[from] skiff_image::StoreError),
    #[error(transparent)]
    Logging(#[from] LoggingError),
}

/// Does what every SIGHUP asks for, one after the other. The service manager is told of each.
pub async fn run(
    daemon: Arc<Daemon>,
    images: Arc<ImageStore>,
    source: Source,
    mut hangups: Signal,
) {
    while hangups.recv().await.is_some() {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now().ok());
        let _ = sd_notify::notify(&states);
        match reload(&daemon, &images, &source).await {
            Ok(taken_up) => tracing::info!(taken_up, "configuration read again"),
            Err(error) => tracing::error!(
                error = chain(&error),
                "the configuration cannot be read again; everything stays as it was"
            ),
        }
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    }
}

/// Gives the keys that were taken up.
async fn reload(
    daemon: &Daemon,
    images: &ImageStore,
    source: &Source,
) -> Result<String, ReloadError> {
    let Loaded { config, places, .. } = Config::load(source.path.as_deref(), &source.overrides)?;
    let held = daemon.config.load_full();
    let changes = held.changes(&config)?;
    let next = held.take_up(&config)?;
    // A handler's program may have been replaced without a word in a file.
    let handlers = Handlers::new(&next, &daemon.features)?;
    // Those that are there can do what they could, without a gap.
    handlers.settled().await;
    // What can fail comes first, and what has been taken up by then is given back: it was accepted before.
    let level_and_images = |config: &Config| -> Result<(), ReloadError> {
        source.logging.set_level(config.log.level)?;
        images.reload(image_settings(config))?;
        Ok(())
    };
    // Every policy is read anew, also where only a file has changed.
    let policies = || {
        let settings = signature_settings(&next);
        tokio::task::block_in_place(|| daemon.signatures.reload(settings))
    };
    let done = level_and_images(&next).and_then(|()| Ok(policies()?));
    done.inspect_err(|_| {
        let _ = level_and_images(&held);
    })?;
    if next.cdi != held.cdi {
        daemon.cdi.store(Arc::new(Cdi::new(next.cdi.dirs.clone())));
    }
    daemon
        .cni
        .set_timeout(next.network.plugin_timeout.duration());
    if next.runtime.spare_shims != held.runtime.spare_shims {
        daemon.pool.resize(next.runtime.spare_shims);
    }
    daemon.handlers.store(Arc::new(handlers));
    daemon.config.store(Arc::new(next));
    for change in changes.iter().filter(|change| !change.taken_up) {
        let place = places.of(&change.key).map(ToString::to_string);
        let place = place.unwrap_or_else(|| "not set any more".into());
        let key = &change.key;
        tracing::warn!(%key, %place, "taken up when skiffd is restarted, and not before");
    }
    let taken_up = changes.into_iter().filter(|change| change.taken_up);
    let keys: Vec<_> = taken_up.map(|change| change.key).collect();
    Ok(keys.join(", "))
}
