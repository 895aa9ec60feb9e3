//! Whether a container's images may run in the pod's namespace.
//!
//! An image may be on the node because another namespace's policy let it in, or because there was
//! no policy then. So it is asked again for each container: of the signatures that were kept with
//! the image, without the network, and only once for each policy, image and name. Without any
//! policy nothing is asked.

use std::sync::Arc;

use skiff_cri::v1 as cri;
use skiff_image::{Image, PullError, Reference, ReferenceError};
use skiff_signature::{Policy, PolicyError, Rejection};

use super::image::is_id;
use crate::daemon::Daemon;

/// Why an image may not run.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The policy says so.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It is named by what is no name.
    #[error(transparent)]
    Name(#[from] ReferenceError),
    /// There is nothing to look its signatures up by.
    #[error("the image has no name on this node; pull it again")]
    Nameless,
    /// The content on this node came by other names, which say nothing about this one.
    #[error("the image on this node was not pulled from {0}; pull it again")]
    Elsewhere(String),
    /// It was pulled when nobody wanted its signatures.
    #[error(
        "its signatures are not on this node and cannot be had without credentials; pull it again"
    )]
    Unknown(#[source] PullError),
}

/// Checks images with what the request says of them; an error says of which image, too.
pub(super) async fn admit(
    daemon: &Daemon,
    pod: &cri::PodSandboxConfig,
    images: impl Iterator<Item = (&cri::ImageSpec, &Arc<Image>)>,
) -> Result<(), (String, AdmissionError)> {
    if daemon.signatures.is_off() {
        return Ok(());
    }
    let namespace = pod
        .metadata
        .as_ref()
        .map_or("", |pod| pod.namespace.as_str());
    for (spec, image) in images {
        let name = written(spec);
        let failed = |error| (name.to_owned(), error);
        let policy = daemon.signatures.of(namespace);
        if let Some(policy) = policy.map_err(|e| failed(e.into()))? {
            let names = names(name, image);
            let admitted = admit_by_any(daemon, &policy, &names, image);
            admitted.await.map_err(failed)?;
        }
    }
    Ok(())
}

/// The name in the pod, which a kubelet hands on; it asks for the image by its id.
fn written(spec: &cri::ImageSpec) -> &str {
    match spec.user_specified_image.as_str() {
        "" => &spec.image,
        name => name,
    }
}

/// The names that an image is meant by. An id stands for any of them: what has that id is the
/// same, whichever way it came.
fn names(written: &str, image: &Image) -> Vec<String> {
    if is_id(written, image) {
        let all = image.repo_tags.iter().chain(&image.repo_digests);
        return all.cloned().collect();
    }
    vec![written.to_owned()]
}

async fn admit_by_any(
    daemon: &Daemon,
    policy: &Policy,
    names: &[String],
    image: &Arc<Image>,
) -> Result<(), AdmissionError> {
    let mut outcome = Err(AdmissionError::Nameless);
    for name in names {
        outcome = admit_by(daemon, policy, name, image).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

async fn admit_by(
    daemon: &Daemon,
    policy: &Policy,
    name: &str,
    image: &Arc<Image>,
) -> Result<(), AdmissionError> {
    if policy.has_passed(image.id, name) {
        return Ok(());
    }
    let reference: Reference = name.parse()?;
    policy.needs_signatures(&reference)?;
    if let Err(rejection) = image.passes(policy, &reference) {
        let image = find_signatures(daemon, &reference, image, rejection).await?;
        image.passes(policy, &reference)?;
    }
    policy.pass(image.id, name);
    Ok(())
}

/// Looks for signatures that are not on this node: the image was pulled when nobody wanted them, or
/// has been signed since.
async fn find_signatures(
    daemon: &Daemon,
    name: &Reference,
    image: &Arc<Image>,
    rejection: Rejection,
) -> Result<Arc<Image>, AdmissionError> {
    let repository = name.name();
    let images = Arc::clone(&daemon.images);
    match images
        .find_signatures(Arc::clone(image), name.clone())
        .await
    {
        Ok(found) => found.ok_or(AdmissionError::Elsewhere(repository)),
        Err(error) => {
            let mut known = image.signatures.iter();
            match known.any(|found| found.repository == repository) {
                true => Err(rejection.into()),
                false => Err(AdmissionError::Unknown(error)),
            }
        }
    }
}
