//! Signatures by keys.

use serde_json::json;
use skiff_reference::{Digest, Reference};
use skiff_signature::Rejection;
use skiff_signer::{Key, Log, base64};

use crate::case::{IMAGE, REPOSITORY, check, fetched, manifest, policy, refused};

#[test]
fn the_right_key_and_no_other() {
    let (key, other) = (Key::new(), Key::new());
    let policy = policy(&json!({"type": "sigstoreSigned", "keyData": base64(key.pem())}));
    let good = key.sign_image(IMAGE, &manifest().to_string());
    check(&policy, std::slice::from_ref(&good)).unwrap();
    refused(
        &policy,
        &[other.sign_image(IMAGE, &manifest().to_string())],
        "none of the policy's keys",
    );
    // One that is right is enough.
    check(
        &policy,
        &[
            other.sign_image(IMAGE, &manifest().to_string()),
            good.clone(),
        ],
    )
    .unwrap();

    let mut changed = good.clone();
    changed.payload = changed.payload.replace("null", r#"{"a":1}"#);
    refused(&policy, &[changed], "none of the policy's keys");
    let mut broken = good;
    broken.signature.pop();
    refused(&policy, &[broken], "none of the policy's keys");
    assert!(matches!(
        check(&policy, &[]),
        Err(Rejection::Unsigned { .. })
    ));
}

#[test]
fn any_of_several_keys_and_all_of_several_requirements() {
    let (one, two) = (Key::new(), Key::new());
    let either = policy(
        &json!({"type": "sigstoreSigned", "keyDatas": [base64(one.pem()), base64(two.pem())]}),
    );
    let signed = two.sign_image(IMAGE, &manifest().to_string());
    check(&either, std::slice::from_ref(&signed)).unwrap();
    let json = json!({"default": [
        {"type": "sigstoreSigned", "keyData": base64(one.pem())},
        {"type": "sigstoreSigned", "keyData": base64(two.pem())},
    ]});
    let both =
        skiff_signature::Policy::parse("/p.json".as_ref(), json.to_string().as_bytes()).unwrap();
    refused(
        &both,
        std::slice::from_ref(&signed),
        "none of the policy's keys",
    );
    check(
        &both,
        &[signed, one.sign_image(IMAGE, &manifest().to_string())],
    )
    .unwrap();
}

#[test]
fn every_algorithm_that_is_offered() {
    let message = manifest().to_string();
    let key = Key::of(&rcgen::PKCS_ED25519);
    let signed = key.sign_image(IMAGE, &message);
    let of = |key: &Key| policy(&json!({"type": "sigstoreSigned", "keyData": base64(key.pem())}));
    check(&of(&key), &[signed]).unwrap();
    // SHA-384 is not what cosign signs with, whatever the curve.
    let key = Key::of(&rcgen::PKCS_ECDSA_P384_SHA384);
    refused(
        &of(&key),
        &[key.sign_image(IMAGE, &message)],
        "none of the policy's keys",
    );
}

#[test]
fn a_signature_is_for_one_digest() {
    let key = Key::new();
    let policy = policy(&json!({"type": "sigstoreSigned", "keyData": base64(key.pem())}));
    let another = Digest::of(b"another").to_string();
    refused(&policy, &[key.sign_image(IMAGE, &another)], &another);

    let image: Reference = IMAGE.parse().unwrap();
    let signed = [key.sign_image(IMAGE, &manifest().to_string())];
    let index = Digest::of(b"index");
    // Found under the tag of another digest, though it is not that one's.
    let misplaced = fetched(index, &signed);
    assert!(policy.check(&image, &[index], &[misplaced]).is_err());
    // Of the manifest, which an index led to; of an index that is not this image's.
    let right = fetched(manifest(), &signed);
    policy
        .check(&image, &[index, manifest()], std::slice::from_ref(&right))
        .unwrap();
    assert!(
        policy
            .check(&image, &[index], std::slice::from_ref(&right))
            .is_err()
    );
    // Of the same digest elsewhere.
    let elsewhere = skiff_signature::Evidence {
        repository: "registry.test/other/app".into(),
        ..right
    };
    assert!(policy.check(&image, &[manifest()], &[elsewhere]).is_err());
}

#[test]
fn a_signature_is_for_one_name() {
    let key = Key::new();
    let digest = manifest().to_string();
    let of = |identity: serde_json::Value| {
        policy(
            &json!({"type": "sigstoreSigned", "keyData": base64(key.pem()), "signedIdentity": identity}),
        )
    };
    let default = policy(&json!({"type": "sigstoreSigned", "keyData": base64(key.pem())}));
    refused(
        &default,
        &[key.sign_image(REPOSITORY, &digest)],
        "signedIdentity",
    );
    let repository = of(json!({"type": "matchRepository"}));
    check(&repository, &[key.sign_image(REPOSITORY, &digest)]).unwrap();
    refused(
        &repository,
        &[key.sign_image("registry.test/team/other", &digest)],
        "team/other",
    );
    let elsewhere = of(json!({"type": "exactRepository", "dockerRepository": "upstream.test/app"}));
    check(
        &elsewhere,
        &[key.sign_image("upstream.test/app:9", &digest)],
    )
    .unwrap();
    refused(
        &elsewhere,
        &[key.sign_image(IMAGE, &digest)],
        "signedIdentity",
    );
}

#[test]
fn a_log_is_asked_for_when_its_key_is_given() {
    let (key, log) = (Key::new(), Log::default());
    let policy = policy(&json!({
        "type": "sigstoreSigned", "keyData": base64(key.pem()),
        "rekorPublicKeyData": base64(log.0.pem()),
    }));
    let mut signed = key.sign_image(IMAGE, &manifest().to_string());
    refused(&policy, std::slice::from_ref(&signed), "no promise");
    log.enter(&mut signed, &key.pem(), 1_700_000_000);
    check(&policy, std::slice::from_ref(&signed)).unwrap();
    Log::default().enter(&mut signed, &key.pem(), 1_700_000_000);
    refused(
        &policy,
        std::slice::from_ref(&signed),
        "none of the keys of the log",
    );
    log.enter(&mut signed, &Key::new().pem(), 1_700_000_000);
    refused(&policy, &[signed], "another signer");
}
