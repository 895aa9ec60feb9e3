//! Security profiles of the node: seccomp profiles compiled, AppArmor profiles loaded.
//!
//! Map: [`seccomp`] programs, kept for the containers that share a profile; [`apparmor`] our own
//! profile and those of the node's administrator.
//!
//! Invariants: a container whose profile is missing or broken is not created; a container that
//! asks for no profile costs nothing here.

pub mod apparmor;
pub mod seccomp;

use std::path::PathBuf;

/// A profile that a container asks for cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// A file that is not there or cannot be read.
    #[error("{action} {}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file that is not a seccomp profile.
    #[error("seccomp profile {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: skiff_seccomp::ProfileError,
    },
    /// A seccomp profile that cannot become a program.
    #[error("compile seccomp profile {name}")]
    Compile {
        /// The file, or `RuntimeDefault`.
        name: String,
        /// Why not.
        #[source]
        source: skiff_seccomp::CompileError,
    },
    /// The program could not be put where a shim can read it.
    #[error("keep the program of seccomp profile {name}")]
    Keep {
        /// The file, or `RuntimeDefault`.
        name: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The kernel does not have the AppArmor profile.
    #[error("AppArmor profile {0:?} is not loaded; load it with apparmor_parser")]
    NotLoaded(String),
}
