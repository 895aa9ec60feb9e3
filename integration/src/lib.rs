//! The drivers' common ground: a CRI client, request builders, and what is read off the node.
//!
//! The drivers in `bin` run inside the node lab as root, beside a real daemon; `integration/suite`
//! calls them. What must hold:
//!
//! - a driver speaks to any CRI runtime unless it says otherwise, so that every test can be run
//!   against a peer;
//! - a driver reports every test by name, also the ones it could not run.

#![forbid(unsafe_code)]

pub mod cgroup;
pub mod client;
pub mod collector;
pub mod content;
pub mod daemon;
pub mod figures;
pub mod footprint;
pub mod mount;
pub mod process;
pub mod registry;
pub mod report;
