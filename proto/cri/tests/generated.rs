//! The checked-in Rust code is what api.proto says.
//!
//! Generating needs no protoc: protox compiles the descriptors. With `SKIFF_REGENERATE=1` the test
//! writes the file instead of comparing it.

use std::path::Path;

use prost_types::field_descriptor_proto::Label;
use prost_types::{DescriptorProto, FileDescriptorSet};

const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/generated/runtime.v1.rs");

/// Messages whose `Debug` is written by hand in src/redact.rs.
const REDACTED: [&str; 2] = [".runtime.v1.AuthConfig", ".runtime.v1.KeyValue"];

/// Messages that are written by hand in src/list.rs, and their items.
const LISTS: [(&str, &str); 2] = [
    ("ListContainersResponse", ".runtime.v1.Container"),
    ("ListPodSandboxResponse", ".runtime.v1.PodSandbox"),
];

#[test]
fn generated_code_matches_the_proto() {
    let fresh = generate();
    if std::env::var_os("SKIFF_REGENERATE").is_some() {
        std::fs::write(CHECKED_IN, fresh)
            .unwrap_or_else(|error| panic!("cannot write {CHECKED_IN}: {error}"));
        return;
    }
    let checked_in = std::fs::read_to_string(CHECKED_IN)
        .unwrap_or_else(|error| panic!("cannot read {CHECKED_IN}: {error}"));
    if checked_in == fresh {
        return;
    }
    let line = 1 + checked_in
        .lines()
        .zip(fresh.lines())
        .take_while(|(old, new)| old == new)
        .count();
    panic!(
        "{CHECKED_IN} differs from api.proto from line {line} on; update it with \
         `SKIFF_REGENERATE=1 cargo test -p skiff-cri --test generated`"
    );
}

/// What src/list.rs takes these messages for.
fn assert_is_list(descriptors: &FileDescriptorSet, list: &str, item: &str) {
    let messages = descriptors.file.iter().flat_map(|file| &file.message_type);
    let found: Vec<_> = messages.filter(|m| m.name() == list).collect();
    let [DescriptorProto { field, .. }] = &found[..] else {
        panic!("{list} is not in api.proto once");
    };
    let [field] = &field[..] else {
        panic!("{list} has another field, which src/list.rs lacks");
    };
    assert_eq!(
        (field.number(), field.label(), field.type_name()),
        (1, Label::Repeated, item),
        "{list}"
    );
}

fn generate() -> String {
    let descriptors = protox::compile(["api.proto"], [env!("CARGO_MANIFEST_DIR")])
        .unwrap_or_else(|error| panic!("cannot compile api.proto: {error:?}"));
    let mut builder = tonic_prost_build::configure();
    for (list, item) in LISTS {
        assert_is_list(&descriptors, list, item);
        let (path, by_hand) = (
            format!(".runtime.v1.{list}"),
            format!("crate::list::{list}"),
        );
        builder = builder.extern_path(path, by_hand);
    }
    let out = tempfile::tempdir().expect("cannot make a temporary directory");
    builder
        // Callers bring their own channel (a unix socket needs a connector), and a server that
        // forgets a call must not compile.
        .build_transport(false)
        .generate_default_stubs(false)
        // Maps in key order: the same message always encodes to the same bytes.
        .btree_map(".")
        .skip_debug(REDACTED)
        .out_dir(out.path())
        .compile_fds(descriptors)
        .unwrap_or_else(|error| panic!("cannot generate code: {error}"));
    let path: &Path = &out.path().join("runtime.v1.rs");
    std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}
