//! Pod networks by CNI plugins.

#![forbid(unsafe_code)]

pub mod files;
mod pod;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use pod::{Attachment, Dns, INTERFACE, NetworkStatus, Pod, PortMapping, Protocol};

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

/// Why a network operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no network to attach to.
    #[error("network not ready: {0}")]
    NotReady(String),
}

/// The CNI client. Clones share everything.
#[derive(Debug, Clone)]
pub struct Cni;

impl Cni {
    /// Opens the cache, reads the configuration and watches it from now on.
    pub fn open(_settings: Settings) -> Result<Self, Error> {
        unimplemented!()
    }
    /// Whether pods can be given a network now. No I/O.
    pub fn status(&self) -> Arc<NetworkStatus> {
        unimplemented!()
    }
    /// Attaches a pod.
    pub async fn setup(&self, _pod: &Pod) -> Result<Attachment, Error> {
        unimplemented!()
    }
    /// Detaches a pod.
    pub async fn teardown(&self, _pod_id: &str, _netns: Option<&Path>) -> Result<(), Error> {
        unimplemented!()
    }
    /// Checks a pod.
    pub async fn check(&self, _pod_id: &str) -> Result<(), Error> {
        unimplemented!()
    }
    /// Detaches every pod not in `valid`.
    pub async fn gc(&self, _valid: &[String]) -> Result<(), Error> {
        unimplemented!()
    }
    /// Ids of all pods with a record.
    pub fn cached(&self) -> Result<Vec<String>, Error> {
        unimplemented!()
    }
}
