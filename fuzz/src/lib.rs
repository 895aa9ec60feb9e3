//! Foreign bytes, and what must hold for all of them.
//!
//! Each target is a function of some bytes that panics when a promise is broken: not only that
//! parsers survive, but that what they accept is what they promise to accept, that it survives
//! being written and read again, and that an archive stays in its directory. `fuzz_targets` has
//! a program for each that an engine drives; `seeds/<target>` its corpus, which `tests/seeds.rs`
//! runs without an engine; README.md says how.
//!
//! A target with several texts as input takes them as sections, which a line `--` separates.

#![forbid(unsafe_code)]

mod bundle;
mod cdi;
mod config;
mod cri;
mod external;
mod image;
mod kernel;
mod layer;
mod limits;
mod log;
mod network;
mod record;
mod seccomp;
mod selinux;
mod shim;
mod signature;
mod stats;
mod streaming;
mod streaming_client;
mod user;

pub use bundle::bundle_config;
pub use cdi::cdi_document;
pub use config::{config_file, config_values};
pub use cri::{container_specification, cri_requests};
pub use external::runtime_words;
pub use image::{auth_challenge, hosts_file, image_config, image_manifest, image_reference};
pub use kernel::{cgroup_files, process_name};
pub use layer::layer;
pub use limits::limits_change;
pub use log::container_log;
pub use network::{cni_configuration, cni_record, cni_result};
pub use record::{container_record, pod_record};
pub use seccomp::seccomp_profile;
pub use selinux::selinux_labels;
pub use shim::{exit_record, shim_frame, shim_message, shim_request};
pub use signature::{
    signature_bundle, signature_certificate, signature_list, signature_payload, signature_policy,
};
pub use stats::{cgroup_usage, proc_usage};
pub use streaming::{spdy_frames, spdy_headers};
pub use streaming_client::streaming_client;
pub use user::{signal_name, user_files};

/// A target.
pub type Target = fn(&[u8]);

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// Every target by its name, which is also that of its program and its seeds.
        pub const TARGETS: &[(&str, Target)] = &[$((stringify!($name), $name)),*];
    };
}

targets![
    auth_challenge,
    bundle_config,
    cdi_document,
    cgroup_files,
    cgroup_usage,
    cni_configuration,
    cni_record,
    cni_result,
    config_file,
    config_values,
    container_log,
    container_record,
    container_specification,
    cri_requests,
    exit_record,
    hosts_file,
    image_config,
    image_manifest,
    image_reference,
    layer,
    limits_change,
    pod_record,
    proc_usage,
    process_name,
    runtime_words,
    seccomp_profile,
    selinux_labels,
    shim_frame,
    shim_message,
    shim_request,
    signal_name,
    signature_bundle,
    signature_certificate,
    signature_list,
    signature_payload,
    signature_policy,
    spdy_frames,
    spdy_headers,
    streaming_client,
    user_files,
];

/// The first `N` sections of an input; missing ones are empty, the last has all that is left.
fn sections<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    const SEPARATOR: &[u8] = b"\n--\n";
    let mut rest = data;
    let mut sections = [&data[..0]; N];
    for (number, section) in sections.iter_mut().enumerate() {
        let end = (number + 1 < N)
            .then(|| rest.windows(SEPARATOR.len()).position(|w| w == SEPARATOR))
            .flatten();
        match end {
            Some(end) => {
                *section = &rest[..end];
                rest = &rest[end + SEPARATOR.len()..];
            }
            None => *section = std::mem::take(&mut rest),
        }
    }
    sections
}

/// A directory for one input.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("make a temporary directory")
}
