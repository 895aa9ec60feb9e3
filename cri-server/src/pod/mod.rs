//! Pods: their life, their records, and the task that owns each.
//!
//! Map: [`state`] decides and does nothing; [`record`] what is on disk; [`view`] what readers see;
//! [`start`] the steps that make a pod, each undoing itself; [`stop`] what ends one; [`files`] the
//! files that all its containers get; [`task`] the one place where a pod and its containers
//! change, with what it does for the pod (`lifecycle`) and for a container (`creation`,
//! `containers`, `removal`).
//!
//! What must hold: a pod's task never waits for a shim, a plugin or a disk flush inside its loop
//! but polls such work beside its inbox, so a container that hangs does not delay another's stop.
//! Work that has begun is carried through whether or not the client that asked still listens.

mod containers;
mod creation;
pub mod error;
pub mod files;
mod lifecycle;
pub mod record;
mod removal;
pub mod start;
pub mod state;
pub mod stop;
pub mod task;
pub mod view;

pub use error::PodError;
pub use state::State;
pub use task::{Command, PodHandle};
pub use view::{Facts, PodView};
