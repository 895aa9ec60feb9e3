//! gRPC: listening, the two services, errors as statuses, and one log line for each call.
//!
//! Thin on purpose: what a call means is in [`crate::rpc`].

mod call;
mod clients;
mod connection;
mod deadline;
mod estimate;
mod image_service;
mod listener;
mod runtime_service;
mod status;
mod subject;

pub use image_service::Images;
pub use listener::{ListenError, Listener};
pub use runtime_service::Runtime;

/// The names of all calls that are built.
pub fn methods() -> impl Iterator<Item = &'static str> {
    let both = [runtime_service::METHODS, image_service::METHODS];
    both.into_iter().flatten().copied()
}
