//! What can go wrong with a registry.

use std::time::Duration;

use skiff_reference::Digest;
use skiff_reference::Reference;

/// Why a registry did not give what was asked for. The message names the host and what it said.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// No connection, or none that lasted.
    #[error("{host}: {reason}")]
    Connection {
        /// Host and port.
        host: String,
        /// The system's or the TLS library's answer.
        reason: String,
    },
    /// Connected, and then nothing came.
    #[error("{host}: nothing received for {}s", waited.as_secs_f32())]
    Stalled {
        /// Host and port.
        host: String,
        /// How long we waited.
        waited: Duration,
    },
    /// 404: no such repository, tag or blob; or none that these credentials may see.
    #[error("{host}: not found: {message}")]
    NotFound {
        /// Host and port.
        host: String,
        /// What the registry said.
        message: String,
    },
    /// 401 or 403.
    #[error("{host}: access denied: {message}")]
    Denied {
        /// Host and port.
        host: String,
        /// What the registry said.
        message: String,
    },
    /// 429, still after waiting as told.
    #[error("{host}: too many requests: {message}")]
    TooManyRequests {
        /// Host and port.
        host: String,
        /// What the registry said.
        message: String,
    },
    /// 5xx.
    #[error("{host}: server error {status}: {message}")]
    Server {
        /// Host and port.
        host: String,
        /// HTTP status.
        status: u16,
        /// What the registry said.
        message: String,
    },
    /// Content that is not what its digest says.
    #[error("{host}: {what} has digest {found}, expected {expected}")]
    Digest {
        /// Host and port.
        host: String,
        /// Which document.
        what: &'static str,
        /// Digest of what came.
        found: Digest,
        /// What it should be.
        expected: Digest,
    },
    /// An answer that makes no sense.
    #[error("{host}: {reason}")]
    Protocol {
        /// Host and port.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate file that cannot be used.
    #[error("{host}: {path}: {reason}")]
    Certificate {
        /// Host and port.
        host: String,
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Several hosts, none of which had it.
    #[error("{last}; before that {}", list(earlier))]
    Hosts {
        /// What the mirrors said.
        earlier: Vec<RegistryError>,
        /// What the last host said, which decides what kind of failure this is.
        last: Box<RegistryError>,
    },
    /// hosts.toml leaves nobody to ask.
    #[error("{registry}: no configured host has the capability that is needed")]
    NoHost {
        /// The registry.
        registry: String,
    },
}

fn list(errors: &[RegistryError]) -> String {
    let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
    all.join("; ")
}

impl RegistryError {
    /// One error of those of several hosts.
    pub(super) fn all(reference: &Reference, mut errors: Vec<Self>) -> Self {
        match errors.pop() {
            None => Self::NoHost {
                registry: reference.registry().to_owned(),
            },
            Some(only) if errors.is_empty() => only,
            Some(last) => Self::Hosts {
                earlier: errors,
                last: Box::new(last),
            },
        }
    }

    /// What decides the kind of failure.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Hosts { last, .. } => last.cause(),
            other => other,
        }
    }

    /// The host did not answer at all.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self, Self::Connection { .. } | Self::Stalled { .. })
    }

    /// The registry could not be used at all, whatever was asked of it.
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self.cause(),
            Self::Connection { .. } | Self::Stalled { .. } | Self::Server { .. }
        )
    }
}
