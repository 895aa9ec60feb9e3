//! Pulls from a registry that misbehaves, through the crate's public interface.

mod auth;
mod fake;
mod faults;
mod image;
mod life;
mod node;
mod records;
mod signatures;
