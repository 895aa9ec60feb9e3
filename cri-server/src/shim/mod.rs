//! The daemon's end of a shim: starting, finding again, and talking to it.
//!
//! Map: [`binary`] the sealed copy that is executed; [`spawn`] one process with its channel;
//! [`pool`] spares, started before a pod needs them; [`client`] requests, replies and events;
//! [`process`] whether it lives; [`connect`] finding one again.
//!
//! What must hold: a shim is only ever trusted with its own pod, so a reply that does not fit its
//! request is an error and not a panic; nothing here waits without a limit, but for the end of an
//! exec and of a shim.

pub mod binary;
pub mod client;
pub mod connect;
pub mod pool;
pub mod process;
pub mod spawn;

use std::io;
use std::path::{Path, PathBuf};

use skiff_shim_proto::frame::FrameError;
use skiff_shim_proto::message::{Failure, FailureKind};

pub use client::{Client, Events, ShimEvent};
pub use pool::Pool;
pub use process::Process;

/// Why a shim could not be had or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// No binary to run.
    #[error("prepare the shim binary {}", path.display())]
    Binary {
        /// Where it should be.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The process could not be started.
    #[error("start shim {shim}")]
    Spawn {
        /// Its id.
        shim: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Its process could not be looked up.
    #[error("look for the process of shim {shim}")]
    Find {
        /// Its id.
        shim: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// SIGKILL does not end it.
    #[error(
        "shim {shim} has not ended within {seconds} s after SIGKILL, a disk it writes to may hang; try again"
    )]
    Undead {
        /// Its id.
        shim: String,
        /// How long was waited.
        seconds: u64,
    },
    /// It ended or stayed silent before it was ready.
    #[error("shim {shim} did not become ready: {reason}")]
    NotReady {
        /// Its id.
        shim: String,
        /// What is known, its standard error included.
        reason: String,
    },
    /// It speaks a protocol of the future.
    #[error("shim {shim} speaks protocol {found}, this daemon knows up to {known}")]
    Newer {
        /// Its id.
        shim: String,
        /// Its protocol.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// It speaks a protocol of the past that has no words for what is asked.
    #[error(
        "shim {shim} speaks protocol {found} and cannot {what}, which takes protocol {needed}; \
         make the pod anew"
    )]
    Older {
        /// Its id.
        shim: String,
        /// What it cannot do.
        what: &'static str,
        /// Its protocol.
        found: u32,
        /// The first one that can.
        needed: u32,
    },
    /// It is not there (any more).
    #[error("shim {shim} is gone")]
    Gone {
        /// Its id.
        shim: String,
    },
    /// It lives and cannot be talked to, or does not answer.
    #[error("shim {shim} lives and does not answer; it is asked again until it does")]
    Unreached {
        /// Its id.
        shim: String,
    },
    /// The connection failed.
    #[error("talk to shim {shim}")]
    Frame {
        /// Its id.
        shim: String,
        /// What went wrong.
        #[source]
        source: FrameError,
    },
    /// It gave no answer.
    #[error("shim {shim} did not answer {call} within {seconds} s")]
    Silent {
        /// Its id.
        shim: String,
        /// What was asked.
        call: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// It answered something else.
    #[error("shim {shim} gave an answer that does not fit {call}")]
    Unexpected {
        /// Its id.
        shim: String,
        /// What was asked.
        call: &'static str,
    },
    /// It refused.
    #[error("{0}")]
    Refused(#[source] Failure),
}

impl ShimError {
    /// The kind of refusal, when it is one.
    pub fn refusal(&self) -> Option<FailureKind> {
        match self {
            Self::Refused(failure) => Some(failure.kind),
            _ => None,
        }
    }

    /// Whether the shim cannot be reached, as opposed to having said no.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Frame { .. })
    }
}

/// A living shim, ready to be adopted or already a pod's.
pub struct Shim {
    /// Name of its run directory.
    pub id: String,
    /// Its run directory.
    pub run_dir: PathBuf,
    /// To ask it.
    pub client: Client,
    /// What it tells.
    pub events: Events,
    /// Its process.
    pub process: Process,
}

/// The end of what a shim wrote to its standard error, for error messages; empty when nothing.
pub fn last_words(run_dir: &Path) -> String {
    const LIMIT: usize = 2048;
    let bytes = std::fs::read(crate::layout::shim_log(run_dir)).unwrap_or_default();
    let from = bytes.len().saturating_sub(LIMIT);
    String::from_utf8_lossy(&bytes[from..]).trim().to_owned()
}
