//! An image, its signatures and a policy.

use std::path::Path;

use serde_json::{Value, json};
use skiff_reference::{Digest, Reference};
use skiff_signature::{Attached, Evidence, Policy, Rejection, Signature};
use skiff_signer::{Signed, attach};

pub(crate) const REPOSITORY: &str = "registry.test/team/app";
pub(crate) const IMAGE: &str = "registry.test/team/app:1";

/// Digest of the image's manifest.
pub(crate) fn manifest() -> Digest {
    Digest::of(b"manifest")
}

/// A policy that has one requirement for all images.
pub(crate) fn policy(requirement: &Value) -> Policy {
    let json = json!({"default": [requirement]}).to_string();
    Policy::parse(Path::new("/policy.json"), json.as_bytes()).unwrap()
}

/// The signatures as they come out of a registry.
pub(crate) fn fetched(digest: Digest, signatures: &[Signed]) -> Evidence {
    let attachment = attach(&digest.to_string(), signatures);
    assert_eq!(attachment.tag, skiff_signature::tag(digest));
    let list = Attached::list(attachment.manifest.as_bytes()).unwrap();
    let payload = |attached: &Attached| {
        let mut blobs = attachment.blobs.iter();
        blobs
            .find(|blob| Digest::of(blob) == attached.payload)
            .unwrap()
            .clone()
    };
    let signatures: Vec<Signature> = list
        .into_iter()
        .map(|attached| {
            let payload = payload(&attached);
            attached.with_payload(payload).unwrap()
        })
        .collect();
    Evidence {
        repository: REPOSITORY.into(),
        digest,
        signatures,
    }
}

/// Whether the image passes with these signatures of its manifest.
pub(crate) fn check(policy: &Policy, signatures: &[Signed]) -> Result<(), Rejection> {
    let image: Reference = IMAGE.parse().unwrap();
    policy.check(&image, &[manifest()], &[fetched(manifest(), signatures)])
}

/// Asserts that it does not, and why.
#[track_caller]
pub(crate) fn refused(policy: &Policy, signatures: &[Signed], why: &str) {
    let error = check(policy, signatures).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}
