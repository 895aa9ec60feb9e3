//! Signature policies, and what registries serve as signatures.

use std::path::Path;
use std::sync::LazyLock;

use skiff_reference::{Digest, Reference};
use skiff_signature::{Attached, Bundle, Evidence, Payload, Policy, Signature};
use skiff_signer::{Authority, Key, Log, base64, payload};

const IMAGE: &str = "registry.test/team/app:1";

fn parse(json: &[u8]) -> Option<Policy> {
    let parsed = Policy::parse(Path::new("/policy.json"), json);
    parsed
        .inspect_err(|error| assert!(!error.to_string().is_empty()))
        .ok()
}

/// A policy: refused with a reason, or of one mind about an image without signatures.
pub fn signature_policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // Which files there are is nobody's input.
    if text.contains("Path") || text.contains("\\u") {
        return;
    }
    let Some(policy) = parse(data) else {
        return;
    };
    assert_eq!(parse(data).expect("it was read before").id(), policy.id());
    for image in [
        IMAGE,
        "busybox",
        "REGISTRY.test:5000/team/app",
        "localhost/a",
    ] {
        let image: Reference = image.parse().expect("an image");
        let digest = Digest::of(data);
        let allowed = policy.check(&image, &[digest], &[]).is_ok();
        assert_eq!(
            policy.needs_signatures(&image).is_ok_and(|needed| !needed),
            allowed
        );
    }
}

/// What is said to be signed: read the same when it is written again.
pub fn signature_payload(data: &[u8]) {
    if let Ok(read) = Payload::parse(data) {
        let again = payload(&read.reference, &read.digest.to_string());
        assert_eq!(Payload::parse(again.as_bytes()), Ok(read));
    }
}

/// A list of signatures: bounded, and each with what stands there.
pub fn signature_list(data: &[u8]) {
    let [manifest, payload] = crate::sections(data);
    let Ok(list) = Attached::list(manifest) else {
        return;
    };
    assert!(list.len() <= 64);
    for attached in list {
        if let Ok(signature) = attached.with_payload(payload.to_vec()) {
            assert_eq!(signature.payload.as_bytes(), payload);
            let evidence = evidence(signature);
            let json = serde_json::to_vec(&evidence).expect("write evidence");
            let again: Evidence = serde_json::from_slice(&json).expect("read evidence");
            assert_eq!(again, evidence);
        }
    }
}

struct Node {
    key: Key,
    log: Log,
    keyed: Policy,
    keyless: Policy,
}

/// Keys that no input has.
static NODE: LazyLock<Node> = LazyLock::new(|| {
    let (key, log, authority) = (Key::new(), Log::default(), Authority::new());
    let (rekor, root) = (base64(log.0.pem()), base64(authority.root()));
    let policy = |signer: String| {
        let json = format!(
            r#"{{"default":[{{"type":"sigstoreSigned",{signer},"rekorPublicKeyData":"{rekor}"}}]}}"#
        );
        parse(json.as_bytes()).expect("a policy")
    };
    let fulcio = format!(r#""fulcio":{{"caData":"{root}","oidcIssuer":"i","subjectEmail":"s"}}"#);
    Node {
        keyed: policy(format!(r#""keyData":"{}""#, base64(key.pem()))),
        keyless: policy(fulcio),
        key,
        log,
    }
});

fn evidence(signature: Signature) -> Evidence {
    Evidence {
        repository: "registry.test/team/app".into(),
        digest: Digest::of(b"manifest"),
        signatures: vec![signature],
    }
}

/// A promise of a log: none that the log did not make counts.
pub fn signature_bundle(data: &[u8]) {
    let read = Bundle::parse(data);
    let Ok(bundle) = String::from_utf8(data.to_vec()) else {
        return;
    };
    let (image, digest): (Reference, _) =
        (IMAGE.parse().expect("an image"), Digest::of(b"manifest"));
    let signed = NODE.key.sign_image(IMAGE, &digest.to_string());
    let found = evidence(Signature {
        payload: signed.payload,
        signature: base64(signed.signature),
        certificate: None,
        chain: None,
        bundle: Some(bundle),
    });
    let refused = NODE.keyed.check(&image, &[digest], &[found]);
    let refused = refused
        .expect_err("the log has promised nothing")
        .to_string();
    assert!(
        read.is_ok() || refused.contains("transparency log"),
        "{refused}"
    );
}

/// Certificates, which the log has seen: none that the authority did not give counts. As roots of a
/// policy they are refused with a reason or read.
pub fn signature_certificate(data: &[u8]) {
    let [leaf, chain] = crate::sections(data);
    let roots = format!(
        r#"{{"default":[{{"type":"sigstoreSigned","fulcio":{{"caData":"{0}","oidcIssuer":"i","subjectEmail":"s"}},"rekorPublicKeyData":"{0}"}}]}}"#,
        base64(leaf)
    );
    parse(roots.as_bytes());
    let (Ok(leaf), Ok(chain)) = (std::str::from_utf8(leaf), std::str::from_utf8(chain)) else {
        return;
    };
    let (image, digest): (Reference, _) =
        (IMAGE.parse().expect("an image"), Digest::of(b"manifest"));
    let mut signed = NODE.key.sign_image(IMAGE, &digest.to_string());
    NODE.log.enter(&mut signed, leaf, 1_718_409_600);
    let found = evidence(Signature {
        payload: signed.payload,
        signature: base64(signed.signature),
        certificate: Some(leaf.to_owned()),
        chain: Some(chain.to_owned()),
        bundle: signed.bundle,
    });
    assert!(NODE.keyless.check(&image, &[digest], &[found]).is_err());
}
