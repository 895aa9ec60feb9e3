//! A shim with real containers, and a daemon played by the test. Needs root and cgroup v2, as in
//! a node lab; elsewhere every test says that it is skipped.

#![deny(unsafe_code)]
#![allow(
    clippy::print_stderr,
    reason = "a skipped test and a measurement speak to whoever runs them"
)]

mod daemon;
mod scene;

mod attached;
mod execs;
mod external;
mod lives;
mod measure;
mod outputs;
mod pods;
mod probes;
#[allow(unsafe_code, reason = "an ioctl without a safe wrapper")]
mod sys;
mod updates;
mod user_namespaces;

/// Returns from a test that cannot be run here.
#[macro_export]
macro_rules! needs_a_lab {
    () => {
        if let Some(missing) = $crate::scene::missing() {
            eprintln!("skipped: {missing}");
            return;
        }
    };
}
