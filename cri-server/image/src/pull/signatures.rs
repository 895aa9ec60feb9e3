//! What a signature policy makes of a pull: which signatures are fetched, and whether they do.
//!
//! A signature may be of the index that the reference names, which names the manifest by its
//! digest, or of the manifest itself: cosign signs the former unless told otherwise, others sign
//! every manifest. Either vouches for what is pulled. The index's are looked for first.

use std::sync::Arc;

use skiff_reference::{Digest, Reference};
use skiff_signature::{Attached, AttachedError, Evidence, Rejection, tag};

use super::{Pull, PullError};
use crate::error::StoreError;
use crate::image::Image;
use crate::keeper::Change;
use crate::registry::RegistryError;
use crate::store::Store;

/// Why an image's signatures do not do.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The policy says so.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// What is attached to the image are no signatures.
    #[error("signatures of {digest}: {source}")]
    Unreadable {
        /// The manifest or index.
        digest: Digest,
        /// What is wrong.
        source: AttachedError,
    },
}

impl Pull {
    /// Whether signatures decide. An image that may not be had at all is refused before anything
    /// is sent.
    pub(super) fn needs_signatures(&self) -> Result<bool, PullError> {
        let Some(policy) = &self.policy else {
            return Ok(false);
        };
        let needed = policy.needs_signatures(&self.reference);
        needed.map_err(|e| self.signature_error(e.into()))
    }

    /// Whether an image that is here has the signatures it needs.
    pub(super) fn admits(&self, image: &Image) -> bool {
        let policy = self.policy.as_ref();
        policy.is_none_or(|policy| image.passes(policy, &self.reference).is_ok())
    }

    /// Fetches signatures of `digests`, which all stand for the image, until they do.
    pub(super) async fn signatures(&self, digests: &[Digest]) -> Result<Vec<Evidence>, PullError> {
        let Some(policy) = &self.policy else {
            return Ok(Vec::new());
        };
        let mut found: Vec<Evidence> = Vec::new();
        let mut verdict = Ok(());
        for digest in digests {
            if found.iter().any(|known| known.digest == *digest) {
                continue;
            }
            found.push(self.signatures_of(*digest).await?);
            verdict = policy.check(&self.reference, digests, &found);
            if verdict.is_ok() {
                break;
            }
        }
        match verdict {
            Ok(()) => Ok(found),
            Err(e) => Err(self.signature_error(e.into())),
        }
    }

    async fn signatures_of(&self, digest: Digest) -> Result<Evidence, PullError> {
        let mut found = Evidence {
            repository: self.reference.name(),
            digest,
            signatures: Vec::new(),
        };
        let list = match self.registry.manifest(&tag(digest)).await {
            Ok(list) => list,
            Err(e) if matches!(e.cause(), RegistryError::NotFound { .. }) => return Ok(found),
            Err(e) => return Err(self.registry_error()(e)),
        };
        let unreadable =
            |source| self.signature_error(SignatureError::Unreadable { digest, source });
        for attached in Attached::list(&list.json).map_err(unreadable)? {
            let payload = self.registry.payload(attached.payload).await;
            let payload = payload.map_err(self.registry_error())?;
            let signature = attached.with_payload(payload.into()).map_err(unreadable)?;
            found.signatures.push(signature);
        }
        Ok(found)
    }

    fn signature_error(&self, source: SignatureError) -> PullError {
        PullError::Signature {
            image: self.reference.clone(),
            source: Arc::new(source),
        }
    }
}

impl Store {
    /// Asks the registry for an image's signatures under a name, without credentials, and keeps
    /// what it says: for an image that was pulled when no policy wanted them. `None` when the image
    /// is gone meanwhile or was never pulled from that repository.
    pub async fn find_signatures(
        self: &Arc<Self>,
        image: &Image,
        reference: &Reference,
    ) -> Result<Option<Arc<Image>>, PullError> {
        let prefix = format!("{}@", reference.name());
        let names = image.repo_digests.iter();
        let mut digests: Vec<Digest> = names
            .filter_map(|name| name.strip_prefix(&prefix)?.parse().ok())
            .collect();
        if digests.is_empty() {
            return Ok(None);
        }
        let pull = Pull::start(self.clone(), reference.clone(), None, None)?;
        let path = self.layout.record(image.id).join("manifest.json");
        let manifest = std::fs::read(&path).map_err(StoreError::io("read", &path));
        let manifest = Digest::of(&manifest.map_err(pull.store_error())?);
        if !digests.contains(&manifest) {
            digests.push(manifest);
        }
        let mut signatures = Vec::new();
        for digest in digests {
            signatures.push(pull.signatures_of(digest).await?);
        }
        let id = image.id;
        let change = |done| Change::Sign {
            id,
            signatures,
            done,
        };
        self.change(change).await.map_err(pull.store_error())
    }
}
