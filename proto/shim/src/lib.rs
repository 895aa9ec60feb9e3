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
/// smaller one: what an older one would not do, it is not asked for.
///
/// | | since |
/// |---|---|
/// | 1 | the beginning |
/// | 2 | [`message::Create::seccomp`] and [`message::Create::images`] are carried out |
///
/// A shim answers calls that it does not know as unsupported, and what [`message::Adopt`] asks for
/// only shims hear that the same daemon has started: neither needs a number. What does is a field
/// that an older shim would pass over and go on.
pub const PROTOCOL: u32 = 2;

/// The first protocol whose shims confine containers and mount images.
pub const CONFINES: u32 = 2;
