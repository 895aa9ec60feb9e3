//! Pulls under signature policies: nothing is seen, and nothing kept, of what they do not allow.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use skiff_image::{Digest, Image, PullError, PullRequest, Reference};
use skiff_signature::Policy;
use skiff_signer::{Key, Signed, attach, base64};

use crate::fake::{Fake, Fault, INDEX, MANIFEST, Served, architecture, config, gzip, manifest};
use crate::node::{Node, layers};

fn policy(requirement: &Value) -> Arc<Policy> {
    let json = json!({"default": [requirement]}).to_string();
    Arc::new(Policy::parse(Path::new("/policy.json"), json.as_bytes()).unwrap())
}

/// Signatures of a key, for whichever tag.
fn signed_by(key: &Key) -> Arc<Policy> {
    policy(&json!({
        "type": "sigstoreSigned", "keyData": base64(key.pem()),
        "signedIdentity": {"type": "matchRepository"},
    }))
}

fn accept() -> Arc<Policy> {
    policy(&json!({"type": "insecureAcceptAnything"}))
}

/// A registry with one image, `a:v1`, and a key.
struct Case {
    fake: Fake,
    node: Node,
    key: Key,
    served: Served,
}

impl Case {
    async fn new() -> Self {
        let fake = Fake::start().await;
        let served = fake.put_image("a", "v1", &layers());
        Self {
            fake,
            node: Node::new(),
            key: Key::new(),
            served,
        }
    }

    fn name(&self) -> String {
        format!("{}/a", self.fake.address)
    }

    fn sign(&self, key: &Key, digest: Digest) -> Signed {
        key.sign_image(&self.name(), &digest.to_string())
    }

    fn attach(&self, digest: Digest, signatures: &[Signed]) {
        let attachment = attach(&digest.to_string(), signatures);
        self.fake
            .put_manifest("a", &attachment.tag, MANIFEST, &attachment.manifest);
        for blob in &attachment.blobs {
            self.fake.put_blob("a", blob);
        }
    }

    async fn pull(&self, policy: Option<Arc<Policy>>) -> Result<Arc<Image>, PullError> {
        let reference = format!("{}:v1", self.name());
        let request = PullRequest {
            reference,
            auth: None,
            policy,
        };
        self.node.store.pull(request).await
    }

    /// Pulls what may not be had.
    async fn refused(&self, policy: Arc<Policy>, why: &str) {
        let error = self.pull(Some(policy)).await.unwrap_err();
        assert!(error.is_signature() && !error.is_not_found(), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }

    fn layers_asked_for(&self) -> usize {
        let digests = self.served.layers.iter();
        digests
            .map(|layer| self.fake.seen(&layer.to_string()).len())
            .sum()
    }
}

#[tokio::test]
async fn unsigned_and_wrongly_signed_images_leave_nothing() {
    let case = Case::new().await;
    case.refused(signed_by(&case.key), "there is none of").await;
    case.attach(
        case.served.manifest,
        &[case.sign(&Key::new(), case.served.manifest)],
    );
    case.refused(signed_by(&case.key), "none of the policy's keys")
        .await;
    case.attach(
        case.served.manifest,
        &[case.sign(&case.key, Digest::of(b"other"))],
    );
    case.refused(signed_by(&case.key), "the image is").await;
    assert_eq!(
        case.layers_asked_for(),
        0,
        "checked before layers are fetched"
    );
    assert!(case.node.store.images().is_empty());
    case.node.assert_nothing_left().await;
}

#[tokio::test]
async fn a_rejected_image_is_not_even_asked_for() {
    let case = Case::new().await;
    case.refused(policy(&json!({"type": "reject"})), "rejects it")
        .await;
    assert!(case.fake.seen("").is_empty());
}

#[tokio::test]
async fn a_signed_image_keeps_its_signatures() {
    let case = Case::new().await;
    case.attach(
        case.served.manifest,
        &[case.sign(&case.key, case.served.manifest)],
    );
    let signed = signed_by(&case.key);
    let image = case.pull(Some(signed.clone())).await.unwrap();
    assert_eq!(image.id, case.served.id);
    let name: Reference = format!("{}:v1", case.name()).parse().unwrap();
    image.passes(&signed, &name).unwrap();
    assert!(image.passes(&signed_by(&Key::new()), &name).is_err());
    let asked = case.fake.seen(".sig").len();
    case.pull(Some(signed.clone())).await.unwrap();
    assert_eq!(case.fake.seen(".sig").len(), asked, "they are here already");
    let node = case.node.reopen();
    node.store.images()[0].passes(&signed, &name).unwrap();
}

#[tokio::test]
async fn a_signature_of_the_index_or_of_the_manifest_does() {
    let case = Case::new().await;
    let layers = layers();
    let blobs: Vec<_> = layers.iter().map(|layer| gzip(layer)).collect();
    let ours = manifest(
        &config(&layers),
        &blobs,
        MANIFEST,
        "application/vnd.oci.image",
    );
    let ours = case.fake.put_manifest("a", "unused", MANIFEST, &ours);
    let index = |note: &str| {
        let json = json!({"schemaVersion": 2, "annotations": {"note": note}, "manifests": [{
            "mediaType": MANIFEST, "digest": ours.to_string(), "size": 1,
            "platform": {"os": "linux", "architecture": architecture()},
        }]});
        case.fake.put_manifest("a", "v1", INDEX, &json.to_string())
    };
    let top = index("of the index");
    case.refused(signed_by(&case.key), "there is none of").await;
    case.attach(top, &[case.sign(&case.key, top)]);
    case.pull(Some(signed_by(&case.key))).await.unwrap();

    let other = Key::new();
    index("of the manifest");
    case.attach(ours, &[case.sign(&other, ours)]);
    case.pull(Some(signed_by(&other))).await.unwrap();
    case.refused(signed_by(&Key::new()), "its signature is not")
        .await;
}

#[tokio::test]
async fn what_one_policy_let_in_another_does_not() {
    let case = Case::new().await;
    let first = case.pull(Some(accept())).await.unwrap();
    assert!(case.fake.seen(".sig").is_empty(), "nobody wanted to know");
    case.refused(signed_by(&case.key), "there is none of").await;
    assert_eq!(case.node.store.images()[0].repo_tags, first.repo_tags);
    let layers = case.layers_asked_for();
    case.attach(
        case.served.manifest,
        &[case.sign(&case.key, case.served.manifest)],
    );
    case.pull(Some(signed_by(&case.key))).await.unwrap();
    assert_eq!(case.layers_asked_for(), layers, "the layers are here");
}

#[tokio::test]
async fn pulls_under_different_policies_are_not_one() {
    let case = Case::new().await;
    let (open, closed) = tokio::join!(
        case.pull(Some(accept())),
        case.pull(Some(signed_by(&case.key)))
    );
    open.unwrap();
    assert!(closed.unwrap_err().is_signature());
}

#[tokio::test]
async fn a_registry_that_does_not_say_has_not_said_that_there_are_none() {
    let case = Case::new().await;
    let status = Fault::Status(500, String::new(), "down".into());
    case.fake.fault(".sig", usize::MAX, status);
    let error = case.pull(Some(signed_by(&case.key))).await.unwrap_err();
    assert!(error.is_registry_unavailable(), "{error}");
    case.node.assert_nothing_left().await;
}

#[tokio::test]
async fn a_list_that_is_none_is_refused() {
    let case = Case::new().await;
    let tag = skiff_signature::tag(case.served.manifest);
    case.fake.put_manifest("a", &tag, MANIFEST, "[1]");
    case.refused(signed_by(&case.key), "list of signatures")
        .await;
}

#[tokio::test]
async fn signatures_of_an_image_that_is_here_are_found_later() {
    let case = Case::new().await;
    let image = case.pull(None).await.unwrap();
    let signed = signed_by(&case.key);
    let name: Reference = format!("{}:v1", case.name()).parse().unwrap();
    let store = &case.node.store;
    let found = store.find_signatures(&image, &name).await.unwrap().unwrap();
    assert!(found.passes(&signed, &name).is_err());
    case.attach(
        case.served.manifest,
        &[case.sign(&case.key, case.served.manifest)],
    );
    let found = store.find_signatures(&image, &name).await.unwrap().unwrap();
    found.passes(&signed, &name).unwrap();
    // What was found once is not forgotten when it is gone, nor when other signatures come.
    case.attach(
        case.served.manifest,
        &[case.sign(&Key::new(), case.served.manifest)],
    );
    let found = store.find_signatures(&image, &name).await.unwrap().unwrap();
    found.passes(&signed, &name).unwrap();
    assert_eq!(found.signatures.len(), 1);
    let elsewhere: Reference = "elsewhere.test/a:v1".parse().unwrap();
    assert!(
        store
            .find_signatures(&image, &elsewhere)
            .await
            .unwrap()
            .is_none()
    );
}
