//! What the daemon and a pod's shim say to each other, and the files both read.
//!
//! A pod outlives the daemon that made it, so every type here is a promise to another
//! version of ourselves: fields are added with `#[serde(default)]`, never renamed or
//! reused, unknown fields are ignored, and [`PROTOCOL`] counts breaking changes.
//!
//! Map: [`message`] requests, replies and events; [`frame`] how one message and its file
//! descriptors travel over a `SOCK_SEQPACKET` socket; [`record`] files on disk; [`process`] how
//! records name a process.
//!
//! Invariants: no I/O beyond framing; no async; no gRPC types.

#![forbid(unsafe_code)]

pub mod frame;
pub mod message;
pub mod process;
pub mod record;

/// Version of the messages. A daemon refuses a shim with a larger number and serves every
/// smaller one.
pub const PROTOCOL: u32 = 1;
