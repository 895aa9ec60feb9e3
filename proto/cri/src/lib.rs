//! CRI v1: the messages, the client and the server side of the gRPC interface a kubelet speaks.
//!
//! `api.proto` beside this crate is the source; [`v1`] is generated from it and checked in, so that
//! a build needs no protobuf compiler. After a change to `api.proto`:
//!
//! ```text
//! SKIFF_REGENERATE=1 cargo test -p skiff-cri --test generated
//! ```
//!
//! What must hold:
//!
//! - every field has the number and the type it has in Kubernetes (`tests/upstream.rs`);
//! - the checked-in code is what `api.proto` generates, but for the answers to ListContainers and
//!   ListPodSandbox, which hold their items encoded (`list`; `tests/generated.rs`);
//! - no secret is printed by `{:?}` (`redact`): registry credentials never, and the values of
//!   environment variables neither, because Kubernetes Secrets reach containers that way;
//! - maps are ordered, so that equal messages encode to equal bytes;
//! - no bytes make a decoder panic, and fields of a later release are skipped
//!   (`tests/foreign_bytes.rs`).

#![forbid(unsafe_code)]

mod list;
mod redact;

/// Package `runtime.v1`: messages at the top, `runtime_service_server`, `image_service_server` and
/// their clients in modules of their own.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!("generated/runtime.v1.rs");

    pub use crate::list::{ListContainersResponse, ListPodSandboxResponse};
}
