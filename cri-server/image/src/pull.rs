//! Pulling an image.

use std::sync::Arc;

use crate::auth::Auth;
use crate::error::StoreError;
use crate::image::Image;
use crate::manifest::ManifestError;
use crate::reference::{Reference, ReferenceError};
use crate::store::Store;

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The image's name as the user wrote it.
    pub reference: String,
    /// Credentials, if the kubelet has any.
    pub auth: Option<Auth>,
}

/// Why a pull failed. Cloneable, because joined pulls share their failure.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PullError {
    /// The name is no image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// No registry of the image could be reached, or all of them failed.
    #[error("pull {image}: {reason}")]
    RegistryUnavailable {
        /// The image.
        image: Reference,
        /// Each registry asked and what it answered.
        reason: String,
    },
    /// The documents of the image are wrong.
    #[error("pull {image}: {source}")]
    Manifest {
        /// The image.
        image: Reference,
        /// What is wrong with them.
        source: Arc<ManifestError>,
    },
    /// The store failed.
    #[error("pull {image}: {source}")]
    Store {
        /// The image.
        image: Reference,
        /// What failed.
        source: Arc<StoreError>,
    },
}

impl Store {
    /// Pulls an image. Pulls of the same image and layers are joined. Dropping the future cancels
    /// the pull, unless others wait for it.
    pub async fn pull(self: &Arc<Self>, request: PullRequest) -> Result<Arc<Image>, PullError> {
        let image: Reference = request.reference.parse()?;
        Err(PullError::RegistryUnavailable {
            image,
            reason: "not in this build yet".into(),
        })
    }
}
