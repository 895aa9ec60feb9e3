//! What the caller of this library is told when something fails on its side of the clone.

use std::io;
use std::path::PathBuf;

use crate::Failure;

/// Why a call failed. What goes wrong inside the child arrives as [`Failure`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was attempted, and on what.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The configuration cannot be meant, or asks for what this runtime does not do.
    #[error("{field}: {problem}")]
    Invalid {
        /// The runtime-spec field, as `linux.seccomp`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A limit is asked for whose controller is absent in the cgroup's parents.
    #[error(
        "cgroup {path}: {field} needs the {controller} controller, which is not available there"
    )]
    Controller {
        /// The container's cgroup.
        path: PathBuf,
        /// The runtime-spec field.
        field: String,
        /// Name of the controller.
        controller: &'static str,
    },
    /// The call does not fit the state of the child.
    #[error("container process {pid} is {state}, cannot {action}")]
    State {
        /// Host pid.
        pid: i32,
        /// Its state.
        state: &'static str,
        /// What was asked.
        action: &'static str,
    },
    /// The child failed before it was ready.
    #[error(transparent)]
    Child(#[from] Failure),
}

impl Error {
    /// A failed system call.
    pub fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            what: what.into(),
            source: source.into(),
        }
    }

    /// A configuration field that cannot be meant or is not supported.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            problem: problem.into(),
        }
    }
}
