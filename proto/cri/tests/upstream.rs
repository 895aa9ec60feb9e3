//! Wire compatibility: our descriptors and those of Kubernetes' own `api.proto`, fact by fact.
//!
//! Whatever a compared release has must be ours with the same number, type, label and direction of
//! streaming; whatever is ours alone must be named in `NEWER_THAN_0_36`. Without Go the tests that
//! need the module say `skipped` and pass.
//!
//! One difference in spelling is allowed: 0.36 calls `SIGNAL_SIGTERM` just `SIGTERM`. (Before 0.36.3
//! `KeyValue.value` was a string, which is the same on the wire; no compared release has it so.)

mod descriptor;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use descriptor::{Facts, facts_of};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Declarations that came with 0.37. A message or call stands for all it contains.
const NEWER_THAN_0_36: [&str; 9] = [
    "field Mount.mount_options",
    "field RuntimeFeatures.mount_options",
    "message CheckpointPodRequest",
    "message CheckpointPodResponse",
    "message RestorePodRequest",
    "message RestorePodResponse",
    "message RestoredContainer",
    "rpc RuntimeService.CheckpointPod",
    "rpc RuntimeService.RestorePod",
];

#[test]
fn we_are_release_0_37_to_the_last_field() {
    compare_with("v0.37.2", &[]);
}

#[test]
fn we_have_all_of_release_0_36() {
    compare_with("v0.36.6", &NEWER_THAN_0_36);
}

fn compare_with(version: &str, newer: &[&str]) {
    if Command::new("go").arg("version").output().is_err() {
        // Straight to stderr: what the macros print is hidden while a test passes.
        let note = format!("skipped: comparison with k8s.io/cri-api {version}: no `go` in PATH\n");
        std::io::stderr()
            .write_all(note.as_bytes())
            .expect("cannot write to stderr");
        return;
    }
    let directory = fetch(version).join("pkg/apis/runtime/v1");
    let differences = differences(&ours(), &facts_of(&directory, "api.proto"), newer);
    assert!(
        differences.is_empty(),
        "api.proto and k8s.io/cri-api {version} differ:\n  {}",
        differences.join("\n  ")
    );
}

fn fetch(version: &str) -> PathBuf {
    let script = format!("{HERE}/tests/fetch-cri-api");
    let output = Command::new(&script)
        .arg(version)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {script}: {error}"));
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{script} {version} failed: {stderr}"
    );
    PathBuf::from(stdout.trim())
}

fn ours() -> Facts {
    facts_of(Path::new(HERE), "api.proto")
}

/// What `theirs` has and `ours` lacks or has otherwise, what only `ours` has although `newer` does
/// not name it, and what `newer` names without need.
fn differences(ours: &Facts, theirs: &Facts, newer: &[&str]) -> Vec<String> {
    let (ours, theirs) = (without_signal_prefix(ours), without_signal_prefix(theirs));
    let mut found = Vec::new();
    for (what, how) in &theirs {
        match ours.get(what) {
            None => found.push(format!("missing: {what} = {how}")),
            Some(mine) if mine != how => {
                found.push(format!("different: {what} is {how}, ours is {mine}"));
            }
            Some(_) => {}
        }
    }
    let mut unused: BTreeSet<&str> = newer.iter().copied().collect();
    for what in ours.keys().filter(|what| !theirs.contains_key(*what)) {
        match newer.iter().find(|entry| covers(entry, what)) {
            Some(entry) => _ = unused.remove(entry),
            None => found.push(format!("ours alone: {what}")),
        }
    }
    found.extend(
        unused
            .into_iter()
            .map(|entry| format!("listed as newer, but is not: {entry}")),
    );
    found
}

/// A listed message covers its fields: `message A` covers `field A.b`.
fn covers(entry: &str, what: &str) -> bool {
    entry == what
        || entry.strip_prefix("message ").is_some_and(|message| {
            what.strip_prefix("field ")
                .and_then(|field| field.strip_prefix(message))
                .is_some_and(|rest| rest.starts_with('.'))
        })
}

fn without_signal_prefix(facts: &Facts) -> Facts {
    let shorten = |what: &String| what.replace("value Signal.SIGNAL_", "value Signal.");
    facts
        .iter()
        .map(|(what, how)| (shorten(what), how.clone()))
        .collect()
}

/// Our descriptors after replacing one line of api.proto.
fn ours_with(line: &str, replacement: &str) -> Facts {
    let text = std::fs::read_to_string(Path::new(HERE).join("api.proto")).expect("api.proto");
    assert_eq!(
        text.matches(line).count(),
        1,
        "`{line}` is not exactly once in api.proto"
    );
    let directory = tempfile::tempdir().expect("cannot make a temporary directory");
    std::fs::write(
        directory.path().join("api.proto"),
        text.replace(line, replacement),
    )
    .expect("cannot write the changed api.proto");
    facts_of(directory.path(), "api.proto")
}

#[test]
fn the_comparison_sees_every_kind_of_difference() {
    let pristine = ours();
    assert_eq!(differences(&pristine, &pristine, &[]), Vec::<String>::new());
    for (line, replacement, expected) in [
        // A number, a type, a label, a map, a deprecation, an enum value, a direction of streaming.
        (
            "bool recursive_read_only = 8;",
            "bool recursive_read_only = 12;",
            "different: field Mount.recursive_read_only is 8 bool, ours is 12 bool",
        ),
        (
            "bytes stdout = 1;",
            "string stdout = 1;",
            "different: field ExecSyncResponse.stdout is 1 bytes, ours is 1 string",
        ),
        (
            "repeated string repo_tags = 2;",
            "string repo_tags = 2;",
            "different: field Image.repo_tags is 2 repeated string, ours is 2 string",
        ),
        (
            "map<string, string> sysctls = 3;",
            "repeated string sysctls = 3;",
            "different: field LinuxPodSandboxConfig.sysctls is 3 map<string, string>, \
             ours is 3 repeated string",
        ),
        (
            "string apparmor_profile = 9 [deprecated = true];",
            "string apparmor_profile = 9;",
            "different: field LinuxContainerSecurityContext.apparmor_profile \
             is 9 string deprecated, ours is 9 string",
        ),
        (
            "CONTAINER_UNKNOWN = 3;",
            "CONTAINER_UNKNOWN = 4;",
            "different: value ContainerState.CONTAINER_UNKNOWN is 3, ours is 4",
        ),
        (
            "returns (stream StreamImagesResponse)",
            "returns (StreamImagesResponse)",
            "different: rpc ImageService.StreamImages is (.runtime.v1.StreamImagesRequest) \
             -> stream .runtime.v1.StreamImagesResponse, ours is \
             (.runtime.v1.StreamImagesRequest) -> .runtime.v1.StreamImagesResponse",
        ),
    ] {
        assert_eq!(
            differences(&ours_with(line, replacement), &pristine, &[]),
            [expected]
        );
    }
}

#[test]
fn the_comparison_sees_what_is_missing_and_what_is_ours_alone() {
    let less = ours_with("bool recursive_read_only = 8;", "");
    let pristine = ours();
    assert_eq!(
        differences(&less, &pristine, &[]),
        ["missing: field Mount.recursive_read_only = 8 bool"]
    );
    assert_eq!(
        differences(&pristine, &less, &[]),
        ["ours alone: field Mount.recursive_read_only"]
    );
    let newer = ["field Mount.recursive_read_only", "message Mount"];
    assert_eq!(
        differences(&pristine, &less, &newer),
        ["listed as newer, but is not: message Mount"]
    );
}
