//! Policies in files, and what becomes of a change.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use skiff_reference::{Digest, Reference};
use skiff_signature::{Policies, Settings};
use skiff_signer::Key;
use tempfile::TempDir;

const ACCEPT: &str = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
const REJECT: &str = r#"{"default":[{"type":"reject"}]}"#;

struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("policies")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a file in place as editors do.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn settings(&self) -> Settings {
        Settings {
            policy: Some(self.path("policy.json")),
            dir: Some(self.path("policies")),
        }
    }
}

fn allows(policies: &Policies, namespace: &str) -> bool {
    let image: Reference = "quay.io/a".parse().unwrap();
    let policy = policies.of(namespace).unwrap();
    policy.is_none_or(|policy| policy.check(&image, &[], &[]).is_ok())
}

#[test]
fn a_namespace_has_its_own_or_that_of_all() {
    let files = Files::new();
    files.write("policy.json", REJECT);
    files.write("policies/dev.json", ACCEPT);
    let policies = Policies::open(files.settings()).unwrap();
    assert!(!policies.is_off());
    assert!(allows(&policies, "dev"));
    assert!(!allows(&policies, "prod"));
    assert!(!allows(&policies, ""));
    for name in ["../dev", "..", "a/b"] {
        assert!(policies.of(name).is_err(), "{name}");
    }
    let dir_alone = Policies::open(Settings {
        policy: None,
        ..files.settings()
    });
    let dir_alone = dir_alone.unwrap();
    files.write("policies/prod.json", REJECT);
    assert!(allows(&dir_alone, "other") && !allows(&dir_alone, "prod"));
    let off = Policies::open(Settings::default()).unwrap();
    assert!(off.is_off() && off.of("prod").unwrap().is_none());
}

#[test]
fn a_change_counts_at_once() {
    let files = Files::new();
    files.write("policy.json", REJECT);
    let policies = Policies::open(files.settings()).unwrap();
    let before = policies.of("").unwrap().unwrap();
    assert_eq!(policies.of("x").unwrap().unwrap().id(), before.id());
    files.write("policy.json", ACCEPT);
    assert!(allows(&policies, ""));
    files.write("policies/x.json", REJECT);
    assert!(!allows(&policies, "x"));
    fs::remove_file(files.path("policies/x.json")).unwrap();
    assert!(allows(&policies, "x"));
}

#[test]
fn a_policy_that_has_become_unreadable_allows_nothing() {
    let files = Files::new();
    files.write("policy.json", ACCEPT);
    files.write("policies/broken.json", "{");
    let policies = Policies::open(files.settings()).unwrap();
    let error = policies.of("broken").unwrap_err().to_string();
    assert!(error.contains("broken.json:1:"), "{error}");
    assert!(allows(&policies, "whole"));
    files.write("policy.json", "{");
    assert!(policies.of("").is_err());
    fs::remove_file(files.path("policy.json")).unwrap();
    let error = policies.of("").unwrap_err().to_string();
    assert!(error.contains("policy.json"), "{error}");
    assert!(Policies::open(files.settings()).is_err());
    assert!(policies.reload(files.settings()).is_err());
    assert!(policies.reload(Settings::default()).is_ok() && policies.is_off());
}

#[test]
fn a_changed_key_is_another_policy() {
    let files = Files::new();
    let (one, two) = (Key::new(), Key::new());
    files.write("key.pem", &one.pem());
    let requirement = json!({
        "type": "sigstoreSigned", "keyPath": files.path("key.pem"),
        "signedIdentity": {"type": "matchRepository"},
    });
    files.write(
        "policy.json",
        &json!({"default": [requirement]}).to_string(),
    );
    let policies = Policies::open(files.settings()).unwrap();
    let first = policies.of("").unwrap().unwrap();
    files.write("key.pem", &two.pem());
    let second = policies.of("").unwrap().unwrap();
    assert_ne!(first.id(), second.id());
}

#[test]
fn a_verdict_belongs_to_its_policy() {
    let files = Files::new();
    files.write("policy.json", ACCEPT);
    let policies = Policies::open(files.settings()).unwrap();
    let (id, name) = (Digest::of(b"image"), "quay.io/a:1");
    let policy = policies.of("").unwrap().unwrap();
    assert!(!policy.has_passed(id, name));
    policy.pass(id, name);
    assert!(policies.of("").unwrap().unwrap().has_passed(id, name));
    assert!(!policy.has_passed(id, "quay.io/a:2"));
    files.write("policy.json", REJECT);
    assert!(!policies.of("").unwrap().unwrap().has_passed(id, name));
}
