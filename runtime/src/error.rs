//! What the caller of this library is told when something fails. The child uses the same type;
//! its errors travel to the parent as a [`Failure`].

use std::io;
use std::path::PathBuf;

use crate::Failure;

/// Why a call failed.
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
        "cgroup {}: {file} needs the {controller} controller, which is not available there; \
         enable it in the kernel and in the parents' cgroup.subtree_control", path.display()
    )]
    Controller {
        /// The container's cgroup.
        path: PathBuf,
        /// The file that should have been written.
        file: String,
        /// Name of the controller.
        controller: String,
    },
    /// A memory limit below what is in use and cannot be given back.
    #[error(
        "cgroup {}: {usage} bytes of memory are in use, which cannot be brought down to {limit}; \
         no limit was changed", path.display()
    )]
    MemoryInUse {
        /// The container's cgroup.
        path: PathBuf,
        /// The limit asked for, in bytes.
        limit: u64,
        /// What is in use, in bytes.
        usage: u64,
    },
    /// A change of limits failed, and some that had been made could not be undone.
    #[error("{source}; these were changed before and could not be put back: {files}")]
    NotPutBack {
        /// Files of the cgroup.
        files: String,
        /// Why the change failed.
        #[source]
        source: Box<Error>,
    },
    /// The command cannot be executed.
    #[error("execute {command:?}: {source}")]
    Command {
        /// What was looked for.
        command: String,
        /// 127 when it does not exist, 126 otherwise, as a shell would exit.
        exit_code: i32,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A hook failed.
    #[error("{kind} hook {}: {problem}", path.display())]
    Hook {
        /// `createRuntime`, `poststop`, ...
        kind: &'static str,
        /// Its executable.
        path: PathBuf,
        /// What happened to it.
        problem: String,
    },
    /// The call does not fit the state of the process.
    #[error("container process {pid} is {state}, cannot {action}")]
    State {
        /// Host pid.
        pid: i32,
        /// Its state.
        state: &'static str,
        /// What was asked.
        action: &'static str,
    },
    /// The child failed.
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

    /// The system's answer, here or in a child.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::System { source, .. } | Self::Command { source, .. } => source.raw_os_error(),
            Self::Child(failure) => Some(failure.errno).filter(|errno| *errno != 0),
            _ => None,
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let exit_code = match error {
            Error::Command { exit_code, .. } => Some(*exit_code),
            _ => None,
        };
        Self {
            message: error.to_string(),
            errno: error.errno().unwrap_or(0),
            exit_code,
        }
    }
}

/// Says what was attempted when a system call fails.
pub(crate) trait Doing<T> {
    /// `what` reads like "mount /proc".
    fn doing<W: Into<String>>(self, what: impl FnOnce() -> W) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing<W: Into<String>>(self, what: impl FnOnce() -> W) -> Result<T, Error> {
        self.map_err(|e| Error::system(what(), e))
    }
}
