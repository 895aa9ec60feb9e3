//! The calls of the CRI, one file each.
//!
//! A handler checks its request, asks the pod's task or reads the published view, and words the
//! answer. It holds no state and takes no locks. What is not here is not built, and is answered
//! with `Unimplemented` by [`crate::grpc`].

pub mod attach;
pub mod container_stats;
pub mod container_status;
pub mod create_container;
pub mod exec;
pub mod exec_sync;
pub mod get_container_events;
pub mod image_fs_info;
pub mod image_status;
pub mod list_container_stats;
pub mod list_containers;
pub mod list_images;
pub mod list_metric_descriptors;
pub mod list_pod_sandbox;
pub mod list_pod_sandbox_metrics;
pub mod list_pod_sandbox_stats;
pub mod pod_sandbox_stats;
pub mod pod_sandbox_status;
pub mod port_forward;
pub mod pull_image;
pub mod remove_container;
pub mod remove_image;
pub mod remove_pod_sandbox;
pub mod reopen_container_log;
pub mod run_pod_sandbox;
pub mod runtime_config;
pub mod start_container;
pub mod status;
pub mod stop_container;
pub mod stop_pod_sandbox;
pub mod stream_container_stats;
pub mod stream_containers;
pub mod stream_images;
pub mod stream_pod_sandbox_metrics;
pub mod stream_pod_sandbox_stats;
pub mod stream_pod_sandboxes;
pub mod update_container_resources;
pub mod update_pod_sandbox_resources;
pub mod update_runtime_config;
pub mod version;

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use skiff_streaming::Streams;

use crate::container::ContainerError;
use crate::daemon::Daemon;
use crate::events::Lost;
use crate::id::Id;
use crate::pod::{PodError, PodHandle};
use crate::store::{Ambiguous, Found};

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The request lacks something or cannot be meant.
    #[error("{field}: {reason}")]
    Invalid {
        /// Path of the field in the request.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such pod.
    #[error("no pod {0:?}")]
    NoPod(String),
    /// There is no such container.
    #[error("no container {0:?}")]
    NoContainer(String),
    /// The pod does not run.
    #[error("pod {0} is not ready")]
    NotReady(Id),
    /// A client does not keep up with events.
    #[error(transparent)]
    Events(#[from] Lost),
    /// Nobody comes for the URLs that were given out.
    #[error(transparent)]
    Streaming(#[from] skiff_streaming::TooMany),
    /// An id's beginning fits several.
    #[error(transparent)]
    Ambiguous(#[from] Ambiguous),
    /// Something could not be done with a pod.
    #[error(transparent)]
    Pod(#[from] Arc<PodError>),
    /// Something could not be done with a container.
    #[error(transparent)]
    Container(#[from] Arc<ContainerError>),
    /// An image could not be pulled.
    #[error(transparent)]
    Pull(#[from] skiff_image::PullError),
    /// The signature policy of the pod's namespace cannot be used.
    #[error(transparent)]
    Policy(#[from] skiff_signature::PolicyError),
    /// The image store failed.
    #[error(transparent)]
    Images(#[from] skiff_image::StoreError),
}

impl RpcError {
    fn missing(field: &'static str) -> Self {
        Self::Invalid {
            field,
            reason: "is missing".into(),
        }
    }
}

/// Streams that make sense together: some, and with a terminal no second one for errors.
fn check_streams(streams: Streams) -> Result<Streams, RpcError> {
    let Streams {
        stdin,
        stdout,
        stderr,
        tty,
    } = streams;
    let wrong = |field, reason: &str| {
        let reason = reason.into();
        Err(RpcError::Invalid { field, reason })
    };
    if tty && stderr {
        return wrong("stderr", "a terminal has no output of its own for errors");
    }
    if !(stdin || stdout || stderr) {
        return wrong("stdin, stdout, stderr", "none is asked for");
    }
    Ok(streams)
}

/// The pod that a request names.
async fn find_pod(daemon: &Daemon, id: &str) -> Result<Option<Arc<PodHandle>>, RpcError> {
    if id.is_empty() {
        return Err(RpcError::missing("pod_sandbox_id"));
    }
    daemon.ready().await;
    let visible = |pod: &Arc<PodHandle>| pod.view().is_visible();
    Ok(daemon.store.pod(id)?.filter(visible))
}

/// The container that a request names.
async fn find_container(daemon: &Daemon, id: &str) -> Result<Option<Found>, RpcError> {
    if id.is_empty() {
        return Err(RpcError::missing("container_id"));
    }
    daemon.ready().await;
    Ok(daemon.store.container(id)?)
}

/// Whether every selected label is there with its value.
fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector
        .iter()
        .all(|(name, value)| labels.get(name) == Some(value))
}

/// Cuts a list into parts of at least one item that a client's message limit (16 MiB for a
/// kubelet) is not near to.
fn parts<M: Message>(items: Vec<M>) -> Vec<Vec<M>> {
    const LIMIT: usize = 1024 * 1024;
    let mut parts: Vec<Vec<M>> = Vec::new();
    let mut room = 0;
    for item in items {
        let size = item.encoded_len();
        match parts.last_mut() {
            Some(part) if size <= room => {
                room -= size;
                part.push(item);
            }
            _ => {
                room = LIMIT.saturating_sub(size);
                parts.push(vec![item]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_cri::v1::Image;

    #[test]
    fn parts_hold_every_item_once_and_stay_small() {
        let image = |size: usize| Image {
            id: "x".repeat(size),
            ..Default::default()
        };
        assert!(parts(Vec::<Image>::new()).is_empty());
        let sizes = [10, 600_000, 600_000, 3_000_000, 10, 10];
        let parts = parts(sizes.map(image).into());
        let got: Vec<Vec<usize>> = parts
            .iter()
            .map(|part| part.iter().map(|image| image.id.len()).collect())
            .collect();
        assert_eq!(
            got,
            [
                vec![10, 600_000],
                vec![600_000],
                vec![3_000_000],
                vec![10, 10]
            ]
        );
    }

    #[test]
    fn all_selected_labels_must_match() {
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect()
        };
        let labels = map(&[("a", "1"), ("b", "2")]);
        for (selector, want) in [
            (map(&[]), true),
            (map(&[("a", "1")]), true),
            (map(&[("a", "1"), ("b", "2")]), true),
            (map(&[("a", "2")]), false),
            (map(&[("a", "1"), ("c", "")]), false),
        ] {
            assert_eq!(selects(&selector, &labels), want, "{selector:?}");
        }
    }
}
