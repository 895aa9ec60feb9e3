//! The text of policies.

use std::path::Path;

use serde_json::{Value, json};
use skiff_reference::Reference;
use skiff_signature::{Policy, PolicyError};
use skiff_signer::{Authority, Key, base64};

fn parse(json: &str) -> Result<Policy, PolicyError> {
    Policy::parse(Path::new("/etc/policy.json"), json.as_bytes())
}

/// Asserts that a policy with one requirement is refused, and why.
#[track_caller]
fn refused(requirement: &Value, why: &str) {
    let error = parse(&json!({"default": [requirement]}).to_string()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains(why) && error.contains("/etc/policy.json"),
        "{error}"
    );
}

#[test]
fn the_narrowest_scope_decides() {
    let policy = parse(
        r#"{
          "default": [{"type": "reject"}],
          "transports": {
            "docker": {
              "quay.io": [{"type": "insecureAcceptAnything"}],
              "quay.io/closed": [{"type": "reject"}],
              "quay.io/closed/open:1": [{"type": "insecureAcceptAnything"}],
              "*.example.com": [{"type": "insecureAcceptAnything"}]
            },
            "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]}
          }
        }"#,
    )
    .unwrap();
    for (image, allowed) in [
        ("quay.io/a", true),
        ("QUAY.io/closed/a", false),
        ("quay.io/closed/open:1", true),
        ("quay.io/closed/open:2", false),
        ("quay.io:5000/a", false),
        ("a.b.example.com:5000/a", true),
        ("example.com/a", false),
        ("busybox", false),
    ] {
        let image: Reference = image.parse().unwrap();
        assert_eq!(policy.check(&image, &[], &[]).is_ok(), allowed, "{image}");
        assert_eq!(policy.needs_signatures(&image).is_ok(), allowed, "{image}");
    }
    let all = parse(
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{"":[{"type":"insecureAcceptAnything"}]}}}"#,
    );
    all.unwrap()
        .check(&"busybox".parse().unwrap(), &[], &[])
        .unwrap();
}

#[test]
fn an_error_has_its_place() {
    let error =
        parse("{\n  \"default\": [{\"type\": \"insecureAcceptAnything\"}],\n  \"defualt\": []\n}");
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("signature policy /etc/policy.json:3:"),
        "{error}"
    );
    assert!(error.contains("`defualt`"), "{error}");
    let error = parse("{\n\"default\": [\n{\"type\": \"reject\", \"x\": 1}]}")
        .unwrap_err()
        .to_string();
    assert!(error.contains(":3:") && error.contains("`x`"), "{error}");
}

#[test]
fn what_is_not_said_clearly_is_refused() {
    for bad in [
        "",
        "{}",
        r#"{"default":[]}"#,
        r#"{"default":[{"type":"accept"}]}"#,
        r#"{"default":[{}]}"#,
        r#"{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}"#,
        r#"{"default":[{"type":"reject"}],"transports":{"doker":{}}}"#,
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{"quay.io":[]}}}"#,
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{"busybox":[{"type":"reject"}]}}}"#,
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{"quay.io":[{"type":"reject"}],"QUAY.io":[{"type":"insecureAcceptAnything"}]}}}"#,
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn signatures_by_gpg_are_refused_by_name() {
    refused(
        &json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}),
        "signedBy (GPG signatures) is not supported",
    );
}

#[test]
fn whose_signatures_count_is_said_once() {
    let (key, authority) = (base64(Key::new().pem()), base64(Authority::new().root()));
    let signed = |more: Value| {
        let mut requirement = json!({"type": "sigstoreSigned"});
        for (name, value) in more.as_object().unwrap() {
            requirement[name] = value.clone();
        }
        requirement
    };
    let fulcio = json!({"caData": authority, "oidcIssuer": "i", "subjectEmail": "s"});
    refused(&signed(json!({})), "needs one of");
    refused(
        &signed(json!({"keyData": key, "keyPath": "/k"})),
        "more than one",
    );
    refused(&signed(json!({"keyDatas": []})), "the list is empty");
    refused(&signed(json!({"keyPath": "k"})), "absolute");
    refused(&signed(json!({"keyPath": "/nowhere/k"})), "read /nowhere/k");
    refused(&signed(json!({"keyData": "?"})), "not base64");
    refused(
        &signed(json!({"keyData": base64("x")})),
        "keyData has 0 PEM blocks",
    );
    refused(
        &signed(json!({"keyData": authority})),
        "keyData has 0 PEM blocks",
    );
    refused(&signed(json!({"keyData": key, "keyFile": "/k"})), "keyFile");
    refused(&signed(json!({"fulcio": fulcio})), "rekorPublicKeyPath");
    refused(
        &signed(json!({"fulcio": fulcio, "keyData": key, "rekorPublicKeyData": key})),
        "exclude each other",
    );
    for (member, why) in [
        ("caData", "needs caPath or caData"),
        ("oidcIssuer", "oidcIssuer"),
        ("subjectEmail", "subjectEmail"),
    ] {
        let mut part = fulcio.clone();
        part.as_object_mut().unwrap().remove(member);
        refused(
            &signed(json!({"fulcio": part, "rekorPublicKeyData": key})),
            why,
        );
    }
    let mut part = fulcio.clone();
    part["caData"] = json!(key);
    refused(
        &signed(json!({"fulcio": part, "rekorPublicKeyData": key})),
        "caData has no PEM block",
    );
    let good = signed(json!({"fulcio": fulcio, "rekorPublicKeyDatas": [key]}));
    parse(&json!({"default": [good]}).to_string()).unwrap();
    let p521 = Key::of(&rcgen::PKCS_ECDSA_P256_SHA256)
        .pem()
        .replacen("MFkw", "MFlw", 1);
    refused(&signed(json!({"keyData": base64(p521)})), "keyData");
}
