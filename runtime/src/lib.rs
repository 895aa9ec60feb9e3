//! From an OCI runtime-spec configuration to a process.
//!
//! The caller is single-threaded (a pod's shim, or `skiff-oci`). [`create`] clones one child
//! straight into its cgroup and its new namespaces; the child builds the container and then
//! waits on a socket until [`Init::start`] lets it exec. [`exec`] does the same for a further
//! process in a running container. Nothing is executed on the way but the command itself.
//!
//! Map: `create`, `exec` what callers ask for; `init` the parent's end of a child under way,
//! `report` what the two say to each other; `child` and `create::build` what happens between
//! clone3 and exec, with `unseen` where it may be watched, `rootfs`, `mount`, `path`, `device`, `mask`, `console` for the file
//! system and `credential`, `command` for the process; `validate` what is refused; [`hook`];
//! [`seccomp`] and `label` what confines it; [`cgroup`], [`namespace`], [`user_namespace`], [`shm`], [`pod_init`] what a pod is made of; [`stage`] what another runtime is given; [`aside`] what would hold up the caller; `bundle` what skiff-oci is given; [`probe`] what the host can do; `sys` the system
//! calls without a safe wrapper.
//!
//! Invariants: single-threaded callers only, since the child allocates after clone3; root file
//! systems and volumes are detached mounts, attached only inside the container's own mount
//! namespace; no path inside a container's root is ever resolved outside of it; a field of the
//! configuration that is not acted on is refused by name, never ignored.

#![deny(unsafe_code)]

pub mod aside;
#[cfg(feature = "oci")]
pub mod bundle;
pub mod cgroup;
pub mod hook;
pub mod namespace;
pub mod pod_init;
pub mod probe;
pub mod process;
pub mod seccomp;
pub mod shm;
pub mod stage;
pub mod user_namespace;

mod child;
mod command;
mod console;
mod create;
mod credential;
mod device;
mod error;
mod exec;
mod init;
mod label;
mod mask;
mod mount;
mod path;
mod report;
mod rootfs;

#[allow(unsafe_code)]
mod sys;
mod unseen;
mod validate;

pub use create::{Create, Timing, create};
pub use credential::names as capabilities;
pub use error::Error;
pub use exec::{Exec, exec};
pub use init::{Failure, Init, Progress, Stdio};
/// The runtime-spec types this library speaks.
pub use libcontainer::oci_spec;
pub use mount::options::names as mount_options;
pub use mount::read_only_copy;
pub use mount::{ImageVolume, MountLabel};
pub use namespace::Namespaces;
pub use rootfs::Rootfs;
pub use unseen::may_trace;
