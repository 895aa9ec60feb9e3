//! Keeps what readers see in step with the configuration directory, the plugin directories and
//! the plugins' own STATUS.
//!
//! One task per client: it arms watches, reads everything anew, publishes an immutable [`View`],
//! and waits for a change or the next tick. Ticks catch what inotify cannot tell (network file
//! systems, no instance left) and are when STATUS is asked again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};

use crate::Settings;
use crate::chain::Chain;
use crate::directory::{self, Found, Problem};
use crate::network::Network;
use crate::plugin::Launcher;
use crate::pod::NetworkStatus;

/// How often everything is read anew without a sign of change.
const TICK: Duration = Duration::from_secs(10);
/// How long a writer is given to finish before its files are read.
const SETTLE: Duration = Duration::from_millis(20);
/// Longest time a plugin may think about STATUS.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

const PENDING: &str = "NetworkStatusPending";
const PLUGIN_MISSING: &str = "NetworkPluginMissing";

/// What readers see. Replaced as a whole.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// The network new pods are attached to.
    pub(crate) network: Option<Arc<Network>>,
    pub(crate) status: Arc<NetworkStatus>,
}

/// The part of a client that its watching task shares.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) settings: Settings,
    /// Longest time one plugin may run, as it is now.
    pub(crate) timeout: ArcSwap<Duration>,
    pub(crate) launcher: Launcher,
    pub(crate) view: ArcSwap<View>,
}

/// Runs until aborted.
pub(crate) async fn follow(host: Arc<Host>) {
    loop {
        let mut alarm = Alarm::arm(&host);
        loop {
            ask(&host, refresh(&host)).await;
            if tokio::time::timeout(TICK, alarm.rings()).await.is_ok() {
                break;
            }
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// Reads the directories and publishes what they say. A network that answers STATUS is published
/// as ready only by [`ask`].
pub(crate) fn refresh(host: &Host) -> Arc<View> {
    host.launcher.forget();
    let found = directory::load(&host.settings.conf_dir);
    let old = host.view.load_full();
    let mut status = describe(&found, &host.launcher);
    let network = found.network.map(|(_, network)| match &old.network {
        Some(same) if **same == network => Arc::clone(same),
        _ => Arc::new(network),
    });
    let asked = network
        .as_ref()
        .is_some_and(|n| status.ready && n.version.has_status_and_gc());
    if asked {
        status = if answered(&old, network.as_ref()) {
            NetworkStatus {
                skipped: status.skipped,
                file: status.file,
                ..(*old.status).clone()
            }
        } else {
            not_ready(
                status,
                PENDING,
                "its plugins have not answered STATUS yet".into(),
            )
        };
    }
    publish(
        host,
        &old,
        View {
            network,
            status: Arc::new(status),
        },
    )
}

/// Asks the plugins for their STATUS and publishes the answer.
async fn ask(host: &Host, view: Arc<View>) {
    let Some(network) = &view.network else { return };
    if !network.version.has_status_and_gc() || view.status.reason == PLUGIN_MISSING {
        return;
    }
    let limit = (**host.timeout.load()).min(STATUS_LIMIT);
    let answer = Chain {
        launcher: &host.launcher,
        network,
        limit,
    }
    .status()
    .await;
    let clear = NetworkStatus {
        ready: true,
        reason: "",
        message: String::new(),
        ..(*view.status).clone()
    };
    let status = match answer {
        Ok(()) => clear,
        Err(error) => not_ready(clear, "NetworkPluginNotReady", error.to_string()),
    };
    let next = View {
        network: view.network.clone(),
        status: Arc::new(status),
    };
    publish(host, &view, next);
}

/// The last STATUS asked was about this network.
fn answered(old: &View, network: Option<&Arc<Network>>) -> bool {
    let same = match (&old.network, network) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    };
    same && old.status.reason != PLUGIN_MISSING
}

fn publish(host: &Host, old: &View, new: View) -> Arc<View> {
    let new = Arc::new(new);
    if old.status != new.status {
        let NetworkStatus {
            ready,
            message,
            network,
            ..
        } = &*new.status;
        let network = network.as_deref().unwrap_or_default();
        tracing::info!(ready, network, message, "network configuration");
    }
    for (file, reason) in &new.status.skipped {
        if !old
            .status
            .skipped
            .iter()
            .any(|(f, r)| f == file && r == reason)
        {
            tracing::warn!(file = %file.display(), reason, "network configuration passed over");
        }
    }
    host.view.store(Arc::clone(&new));
    new
}

/// What the files alone say.
fn describe(found: &Found, launcher: &Launcher) -> NetworkStatus {
    let mut status = NetworkStatus {
        skipped: found.skipped.clone(),
        ..NetworkStatus::default()
    };
    if let Some(problem) = &found.problem {
        let reason = match problem {
            Problem::NoneValid(_) => "NetworkConfigInvalid",
            _ => "NetworkConfigMissing",
        };
        return NetworkStatus {
            reason,
            message: problem.to_string(),
            ..status
        };
    }
    if let Some((file, network)) = &found.network {
        status.ready = true;
        status.network = Some(network.name.clone());
        status.file = Some(file.clone());
        for plugin in &network.plugins {
            if let Err(error) = launcher.find(&plugin.kind) {
                let message = format!("plugin {}: {error}", plugin.kind);
                return not_ready(status, PLUGIN_MISSING, message);
            }
        }
    }
    status
}

/// Not ready because of something in the chosen network, whose name and file are put before it.
fn not_ready(status: NetworkStatus, reason: &'static str, what: String) -> NetworkStatus {
    let name = status.network.as_deref().unwrap_or_default();
    let file = status.file.as_deref().unwrap_or(Path::new("")).display();
    let message = format!("network {name} ({file}): {what}");
    NetworkStatus {
        ready: false,
        reason,
        message,
        ..status
    }
}

/// Rings when something that was read may have changed. Armed anew after each ring, because what
/// there is to watch changes too.
struct Alarm(Option<EventStream<[u8; 1024]>>);

impl Alarm {
    fn arm(host: &Host) -> Self {
        let Settings {
            conf_dir, bin_dirs, ..
        } = &host.settings;
        let network = host
            .view
            .load()
            .network
            .as_ref()
            .map(|n| conf_dir.join(&n.name));
        let dirs = bin_dirs
            .iter()
            .chain([conf_dir])
            .chain(network.as_ref().filter(|d| d.is_dir()));
        match watch(dirs) {
            Ok(events) => Self(Some(events)),
            Err(error) => {
                let every = TICK.as_secs();
                tracing::warn!(%error, every, "no inotify, reading network configuration by the clock");
                Self(None)
            }
        }
    }

    async fn rings(&mut self) {
        match &mut self.0 {
            Some(events) => drop(events.next().await),
            None => std::future::pending().await,
        }
    }
}

/// Watches directories, or where they are missing the nearest that is there.
fn watch<'a>(dirs: impl Iterator<Item = &'a PathBuf>) -> io::Result<EventStream<[u8; 1024]>> {
    let gone = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
    let appears = WatchMask::CREATE | WatchMask::MOVED_TO;
    let content =
        WatchMask::CLOSE_WRITE | WatchMask::MOVED_FROM | WatchMask::DELETE | WatchMask::ATTRIB;
    let inotify = Inotify::init()?;
    for dir in dirs {
        let add = |path: &Path, mask| {
            let mask = mask | gone | appears | WatchMask::MASK_ADD;
            inotify.watches().add(path, mask).is_ok()
        };
        if !add(dir, content) {
            dir.ancestors()
                .skip(1)
                .any(|above| add(above, WatchMask::empty()));
        }
    }
    inotify.into_event_stream([0; 1024])
}
