//! Why something could not be done with a container.

use std::path::PathBuf;
use std::sync::Arc;

use skiff_image::StoreError;
use skiff_spec::SpecError;

use super::admission::AdmissionError;
use super::state::Denied;
use crate::id::Id;
use crate::profile::ProfileError;
use crate::record::RecordError;
use crate::selinux::RelabelError;
use crate::shim::ShimError;

/// Why something could not be done with a container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The request cannot be meant, or asks for what is not offered.
    #[error("container {name}")]
    Spec {
        /// Its name in the pod.
        name: String,
        /// The field at fault.
        #[source]
        source: SpecError,
    },
    /// A security profile that the request names cannot be had.
    #[error("container {name}")]
    Profile {
        /// Its name in the pod.
        name: String,
        /// Which, and why not.
        #[source]
        source: ProfileError,
    },
    /// A volume cannot be given the container's SELinux label.
    #[error("container {name}: relabel {} as {label}", volume.display())]
    Label {
        /// Its name in the pod.
        name: String,
        /// The volume, as the request names it.
        volume: PathBuf,
        /// The label.
        label: Box<str>,
        /// Why not.
        #[source]
        source: Box<RelabelError>,
    },
    /// The handler of its pod makes no containers for it.
    #[error("create container {name}: the runtime handler {handler:?} of pod {pod} {why}")]
    Handler {
        /// Its name in the pod.
        name: String,
        /// The pod.
        pod: Id,
        /// The handler that the pod was made with.
        handler: String,
        /// Why not.
        why: &'static str,
    },
    /// The pod takes no containers.
    #[error("create container {name}: pod {pod} is not ready{reason}")]
    PodNotReady {
        /// Its name in the pod.
        name: String,
        /// The pod.
        pod: Id,
        /// Why, after a colon; empty when it was stopped.
        reason: String,
    },
    /// Another container has the name.
    #[error("container {name} attempt {attempt} exists in pod {pod} as {id}, {why}")]
    Exists {
        /// Its name in the pod.
        name: String,
        /// Which attempt at it.
        attempt: u32,
        /// The pod.
        pod: Id,
        /// The container that has the name.
        id: Id,
        /// Why the two are not the same.
        why: &'static str,
    },
    /// The image is not on this node.
    #[error("create container {name}: image {image:?} is not present; pull it first")]
    NoImage {
        /// Its name in the pod.
        name: String,
        /// The image as the request names it.
        image: String,
    },
    /// The signature policy of the pod's namespace does not allow an image.
    #[error("create container {name}: image {image}")]
    Signature {
        /// Its name in the pod.
        name: String,
        /// The image as the request names it.
        image: String,
        /// Why not.
        #[source]
        source: Box<AdmissionError>,
    },
    /// An image volume cannot be had.
    #[error("image volume {}: {image}: {reason}", path.display())]
    ImageVolume {
        /// Where the container wants it.
        path: PathBuf,
        /// The image as the request names it.
        image: String,
        /// What is wrong.
        reason: String,
    },
    /// The image store failed.
    #[error("{action} of container {id}")]
    Image {
        /// What was attempted.
        action: &'static str,
        /// The container.
        id: Id,
        /// Why it failed.
        #[source]
        source: StoreError,
    },
    /// The shim failed or refused.
    #[error("{action} container {id}")]
    Shim {
        /// What was attempted.
        action: &'static str,
        /// The container.
        id: Id,
        /// Why it failed.
        #[source]
        source: ShimError,
    },
    /// The container's state does not allow it.
    #[error("{action} container {id}: {denied}")]
    Denied {
        /// What was attempted.
        action: &'static str,
        /// The container.
        id: Id,
        /// Why not.
        denied: Denied,
    },
    /// It does not end.
    #[error("container {id} still has processes {seconds} s after SIGKILL")]
    Undead {
        /// The container.
        id: Id,
        /// How long was waited.
        seconds: u64,
    },
    /// Its shim has died, and what it left cannot be killed yet.
    #[error("container {id}: its shim has died, and what it left is still being killed")]
    Unburied {
        /// The container.
        id: Id,
        /// Why it could not be so far.
        #[source]
        source: Arc<crate::pod::PodError>,
    },
    /// The exec took too long and was killed.
    #[error("exec in container {id}: {command:?} took longer than {seconds} s and was killed")]
    ExecTimeout {
        /// The container.
        id: Id,
        /// Its first word.
        command: String,
        /// The request's limit.
        seconds: i64,
    },
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
    /// The record could not be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The kernel has no randomness to give.
    #[error("make a container id: {0}")]
    Id(getrandom::Error),
    /// The failure of an operation that several requests waited for.
    #[error("{0}")]
    Shared(#[source] Arc<ContainerError>),
}
