//! Answers to requests that failed.

use std::fmt::Display;

use skiff_runtime::Error;
use skiff_shim_proto::message::{Failure, FailureKind};

/// A failure of a kind.
pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure {
        kind,
        message: message.into(),
    }
}

/// The request cannot be meant.
pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    new(FailureKind::InvalidArgument, message)
}

/// The kernel or the file system refused.
pub(crate) fn system(what: impl Display, why: &dyn Display) -> Failure {
    new(FailureKind::System, format!("{what}: {why}"))
}

/// No such container.
pub(crate) fn no_container(id: &str) -> Failure {
    new(
        FailureKind::NotFound,
        format!("no container {id} in this pod"),
    )
}

/// What the runtime library refused.
pub(crate) fn of(error: &Error) -> Failure {
    let kind = match error {
        Error::Invalid { .. } => FailureKind::InvalidArgument,
        Error::State { .. } | Error::MemoryInUse { .. } => FailureKind::InvalidState,
        Error::Child(failure) => return of_child(failure),
        _ => FailureKind::System,
    };
    new(kind, error.to_string())
}

/// What a child said when it gave up.
pub(crate) fn of_child(failure: &skiff_runtime::Failure) -> Failure {
    let kind = match failure.exit_code {
        Some(exit_code) => FailureKind::Command { exit_code },
        None => FailureKind::System,
    };
    new(kind, failure.message.clone())
}
