//! A CRI container configuration becomes an OCI runtime-spec `Spec`.
//!
//! Everything here is a pure function of its [`Input`]: no file is read, no clock looked at, no
//! host asked. What the host and the pod are like is put into the input by the caller. So a
//! container's specification can be compared with a file (`tests/golden`), and a request is
//! judged the same way on every node.
//!
//! Map: [`container_spec`] puts the parts together and [`exec_process`] derives an exec's process
//! from them; one module per part of the specification ([`user`], [`signal`] and the private
//! ones); [`input`] what goes in.
//!
//! Invariants: a request field is either carried out, or refused by an error that names it, or
//! listed at its module as meaningless here; nothing is dropped in silence.

#![forbid(unsafe_code)]

mod annotations;
mod capabilities;
mod cdi;
mod container;
mod devices;
mod error;
pub mod input;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod security;
pub mod selinux;
pub mod signal;
mod sysctl;
pub mod user;
mod userns;
mod volumes;

pub use cdi::{Injection, check_destination};
pub use container::container_spec;
pub use error::SpecError;
pub use input::{
    APPARMOR_DEFAULT, AppArmor, Defaults, Devices, HostDevice, HostFeatures, ImageConfig, Input,
    PodFacts, PodNetwork, RequestedDevice,
};
pub use mounts::image_of;
pub use namespaces::{PodNamespaces, pod_namespaces};
pub use process::exec_process;
pub use resources::{report_resources, update_resources};
pub use security::{
    MASKED_PATHS, Profile, READONLY_PATHS, apparmor_profile, check_sandbox, seccomp_profile,
};
pub use selinux::SeLinux;
pub use signal::Signal;
pub use sysctl::pod_sysctls;
pub use user::{User, UserFiles, resolve_user};
pub use userns::{UserNamespace, check_user_namespace};
pub use volumes::{mount_volumes, own_volumes};

use skiff_cri::v1 as cri;
