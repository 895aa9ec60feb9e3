//! Why a network operation failed.

use crate::cache::CacheError;
use crate::plugin::PluginError;
use crate::request::{BadPod, Verb};

/// Why a network operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no network to attach to; the text says what is wrong and where.
    #[error("network not ready: {0}")]
    NotReady(String),
    /// The pod cannot be described to plugins.
    #[error(transparent)]
    Pod(#[from] BadPod),
    /// A plugin failed.
    #[error("network {network}: plugin {plugin}: {verb}: {source}")]
    Plugin {
        /// Name of the network.
        network: String,
        /// Type of the plugin.
        plugin: String,
        /// What it was asked.
        verb: Verb,
        /// What became of it.
        source: PluginError,
    },
    /// Every plugin succeeded and the pod has no address.
    #[error("network {0}: the plugins gave the pod no address")]
    NoAddress(String),
    /// The pod has no attachment to check.
    #[error("pod {0} is not attached to a network")]
    Unattached(String),
    /// A record could not be kept or read.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A record could not be read, and there is no network to detach its pod from instead.
    #[error("{record}; detaching its pod by the current network is not possible: {reason}")]
    Orphan {
        /// What is wrong with the record.
        record: CacheError,
        /// Why there is no network.
        reason: String,
    },
    /// Attaching failed, and so did undoing it; the record is kept, to try again.
    #[error("{cause}; undoing it failed too: {undo}")]
    NotUndone {
        /// Why attaching failed.
        #[source]
        cause: Box<Error>,
        /// Why undoing it failed.
        undo: Box<Error>,
    },
    /// Several attachments could not be collected.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
}
