//! Containers: their life, their records, and how one is made.
//!
//! Map: [`state`] and [`stop`] decide and do nothing; [`exit`] how one ended; [`record`] what is
//! on disk; [`view`] what readers see, [`resources`] the limits that hold; [`create`] the steps that
//! make one, each undoing itself;
//! [`image`] what they need of images, [`users`] of an image's user data base; [`remains`] what is
//! given back in the end; [`exec`] a further process, [`output`] what it writes; [`session`] what runs
//! for a client at a URL. The task of the pod ([`crate::pod`]) owns
//! all change.

pub mod admission;
mod confine;
pub mod create;
pub mod error;
pub mod exec;
pub mod exit;
pub mod host_paths;
pub mod image;
pub mod image_volumes;
mod labelled;
mod output;
pub mod record;
pub mod remains;
pub mod resources;
pub mod session;
pub mod state;
pub mod stop;
pub mod users;
pub mod view;
mod volumes;

pub use error::ContainerError;
pub use exit::Exit;
pub use state::State;
pub use view::{ContainerView, Facts};
