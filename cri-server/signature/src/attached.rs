//! Where cosign puts signatures: an image of its own in the signed image's repository, under a tag
//! made of the digest, one layer for each signature.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skiff_reference::Digest;

/// Media type of a layer that is a signature's payload.
pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Longest payload, in bytes. One of cosign's has some 250.
pub const MAX_PAYLOAD: u64 = 64 << 10;
/// Most signatures that are looked at.
const MAX_SIGNATURES: usize = 64;
/// Longest list of them, in bytes: certificates and log entries stand in it.
const MAX_MANIFEST: usize = 2 << 20;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";

/// The tag under which the signatures of a manifest or index are found.
pub fn tag(digest: Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

/// All signatures that were found for a digest in a repository; perhaps none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// `registry/repository` that was asked.
    pub repository: String,
    /// The manifest or index whose signatures they are said to be.
    pub digest: Digest,
    /// The signatures, not verified.
    pub signatures: Vec<Signature>,
}

/// One signature with what belongs to it, not verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// What was signed, byte for byte.
    pub payload: String,
    /// The signature, in base64.
    pub signature: String,
    /// The signer's certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Certificates between that one and the root, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The transparency log's promise, JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

/// A layer of the list of signatures: a signature whose payload is still to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Digest of the payload.
    pub payload: Digest,
    annotations: BTreeMap<String, String>,
}

/// A list of signatures that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AttachedError {
    /// Too long to be one.
    #[error("list of signatures: {0} bytes, the limit is {MAX_MANIFEST}")]
    Long(usize),
    /// Not a manifest.
    #[error("list of signatures: {0}")]
    Json(#[from] serde_json::Error),
    /// A payload longer than announced.
    #[error("payload {0} of a signature is longer than {MAX_PAYLOAD} bytes")]
    LongPayload(Digest),
    /// A payload that is not text.
    #[error("payload {0} of a signature is not UTF-8")]
    Payload(Digest),
}

impl Attached {
    /// Reads the manifest found under [`tag`]. Layers that are no signatures are passed over, and
    /// so is what exceeds the limits: it can only take signatures away.
    pub fn list(manifest: &[u8]) -> Result<Vec<Self>, AttachedError> {
        #[derive(Deserialize)]
        struct Manifest {
            #[serde(default)]
            layers: Vec<Layer>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Layer {
            #[serde(default)]
            media_type: String,
            digest: Digest,
            size: u64,
            #[serde(default)]
            annotations: BTreeMap<String, String>,
        }
        if manifest.len() > MAX_MANIFEST {
            return Err(AttachedError::Long(manifest.len()));
        }
        let Manifest { layers } = serde_json::from_slice(manifest)?;
        let is_signature = |layer: &Layer| {
            layer.media_type == MEDIA_TYPE
                && layer.size <= MAX_PAYLOAD
                && layer.annotations.contains_key(SIGNATURE)
        };
        let signatures = layers.into_iter().filter(is_signature);
        Ok(signatures
            .take(MAX_SIGNATURES)
            .map(|layer| Self {
                payload: layer.digest,
                annotations: layer.annotations,
            })
            .collect())
    }

    /// The signature with its payload.
    pub fn with_payload(mut self, payload: Vec<u8>) -> Result<Signature, AttachedError> {
        if payload.len() as u64 > MAX_PAYLOAD {
            return Err(AttachedError::LongPayload(self.payload));
        }
        let payload =
            String::from_utf8(payload).map_err(|_| AttachedError::Payload(self.payload))?;
        Ok(Signature {
            payload,
            signature: self.annotations.remove(SIGNATURE).unwrap_or_default(),
            certificate: self.annotations.remove(CERTIFICATE),
            chain: self.annotations.remove(CHAIN),
            bundle: self.annotations.remove(BUNDLE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_among_other_layers() {
        let layer = |kind: &str, size: u64, annotation: &str| {
            let digest = Digest::of(kind.as_bytes());
            format!(
                r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size},"annotations":{{"{annotation}":"c2ln","{BUNDLE}":"b"}}}}"#
            )
        };
        let of =
            |layers: &[String]| format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layers.join(","));
        let good = layer(MEDIA_TYPE, 9, SIGNATURE);
        let manifest = of(&[
            layer("text/plain", 9, SIGNATURE),
            layer(MEDIA_TYPE, MAX_PAYLOAD + 1, SIGNATURE),
            layer(MEDIA_TYPE, 9, "other"),
            good.clone(),
        ]);
        let all = Attached::list(manifest.as_bytes()).unwrap();
        assert_eq!(all.len(), 1);
        let signature = all[0].clone().with_payload(b"payload".to_vec()).unwrap();
        assert_eq!(signature.payload, "payload");
        assert_eq!(signature.signature, "c2ln");
        assert_eq!(signature.bundle.as_deref(), Some("b"));
        assert_eq!(signature.certificate, None);
        assert!(all[0].clone().with_payload(vec![0xff]).is_err());

        let many = of(&vec![good; MAX_SIGNATURES + 1]);
        assert_eq!(
            Attached::list(many.as_bytes()).unwrap().len(),
            MAX_SIGNATURES
        );
        assert!(Attached::list(b"[1]").is_err());
        assert!(Attached::list(&vec![b' '; MAX_MANIFEST + 1]).is_err());
        assert!(Attached::list(b"{}").unwrap().is_empty());
    }
}
