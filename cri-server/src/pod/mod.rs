//! Pods: their life, their records, and the task that owns each.
//!
//! Map: [`state`] decides and does nothing; [`record`] what is on disk; [`view`] what readers see;
//! [`start`] the steps that make a pod, each undoing itself; [`stop`] what ends one; [`ports`] connections into it; [`files`] the
//! files that all its containers get; [`task`] the one place where a pod and its containers
//! change, with what it does for the pod (`lifecycle`) and for a container (`creation`,
//! `containers`, `resources`, `removal`), [`link`] its connection with the shim, `burial` what a dead one left.
//!
//! What must hold: a pod's task never waits for a shim, a plugin or a disk flush inside its loop
//! but polls such work beside its inbox, so a container that hangs does not delay another's stop.
//! Work that has begun is carried through whether or not the client that asked still listens.

mod burial;
mod containers;
mod creation;
pub mod error;
pub mod files;
pub mod host_ports;
mod lifecycle;
pub(crate) mod link;
pub mod ports;
pub mod record;
mod removal;
mod resources;
pub mod start;
pub mod state;
pub mod stop;
pub mod task;
pub mod view;

pub use error::PodError;
pub use files::EMPTY;
pub use state::State;
pub use task::{Command, PodHandle};
pub use view::{Facts, PodView};
