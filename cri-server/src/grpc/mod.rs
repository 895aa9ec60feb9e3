//! gRPC: listening, the two services, errors as statuses, and one log line for each call.
//!
//! Thin on purpose: what a call means is in [`crate::rpc`].

mod edge;
mod image_service;
mod listener;
mod runtime_service;
mod status;

pub use image_service::Images;
pub use listener::{ListenError, Listener};
pub use runtime_service::Runtime;
