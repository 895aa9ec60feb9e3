//! Why pulls fail, and the kinds of failure that callers tell apart.

use skiff_reference::Digest;
use std::sync::Arc;

use crate::error::StoreError;
use crate::layer::LayerError;
use crate::manifest::ManifestError;
use crate::pull::SignatureError;
use crate::registry::{HostsError, RegistryError};
use skiff_reference::{Reference, ReferenceError};
use skiff_signature::Rejection;

/// Why a pull failed. Cloneable, because joined pulls share their failure.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PullError {
    /// The name is no image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// hosts.toml cannot be used.
    #[error("pull {image}: {source}")]
    Hosts {
        /// The image.
        image: Arc<Reference>,
        /// What is wrong with it.
        source: Arc<HostsError>,
    },
    /// No registry gave it.
    #[error("pull {image}: {source}")]
    Registry {
        /// The image.
        image: Arc<Reference>,
        /// Whom we asked and what they said.
        source: Arc<RegistryError>,
    },
    /// The documents of the image are wrong.
    #[error("pull {image}: {source}")]
    Manifest {
        /// The image.
        image: Arc<Reference>,
        /// What is wrong with them.
        source: Arc<ManifestError>,
    },
    /// A layer is wrong, or there is no room for it.
    #[error("pull {image}: layer {digest}: {source}")]
    Layer {
        /// The image.
        image: Arc<Reference>,
        /// The layer's blob.
        digest: Digest,
        /// What is wrong.
        source: Arc<LayerError>,
    },
    /// The policy does not allow it.
    #[error("pull {image}: {source}")]
    Signature {
        /// The image.
        image: Arc<Reference>,
        /// Why not.
        source: Arc<SignatureError>,
    },
    /// The store failed.
    #[error("pull {image}: {source}")]
    Store {
        /// The image.
        image: Arc<Reference>,
        /// What failed.
        source: Arc<StoreError>,
    },
}

impl PullError {
    /// The registry could not be used, whatever was asked of it. A kubelet wants to read
    /// `RegistryUnavailable` at the start of the message then.
    pub fn is_registry_unavailable(&self) -> bool {
        matches!(self, Self::Registry { source, .. } if source.is_unavailable())
    }

    /// The registry has no such image, or not for these credentials.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Registry { source, .. }
            if matches!(source.cause(), RegistryError::NotFound { .. }))
    }

    /// The registry wants other credentials.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Registry { source, .. }
            if matches!(source.cause(), RegistryError::Denied { .. }))
    }

    /// A signature policy does not allow the image. A kubelet wants to read
    /// `SignatureValidationFailed` at the start of the message then.
    pub fn is_signature(&self) -> bool {
        matches!(self, Self::Signature { .. })
    }

    /// The image that a signature policy rejects, and why.
    pub fn rejection(&self) -> Option<(&Reference, &Rejection)> {
        match self {
            Self::Signature { image, source } => match &**source {
                SignatureError::Rejected(why) => Some((image, why)),
                SignatureError::Unreadable { .. } => None,
            },
            _ => None,
        }
    }

    /// The image file system is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Layer { source, .. } if matches!(**source, LayerError::NoSpace { .. }))
    }
}
