//! The monitor of one pod.
//!
//! A shim is started ahead of time as a spare, with the pod's network, IPC and UTS namespaces
//! made, and becomes a pod's when the daemon adopts it. From then on it outlives any daemon: it
//! starts every container of the pod, reaps them, writes their logs and exit records, runs execs,
//! and answers whoever connects.
//!
//! Map: `startup` from the first instruction to a spare; `shim` the event loop; `call` what can be
//! asked, one call per file; `lifecycle` and `reap` what happens unasked; `container` (with its
//! state machine and output), `bundle`, `exec` and `terminal` what runs; `external` containers that another runtime
//! makes, `process` what both have; `attach` and `dial` what
//! reaches it from outside; `pod` what it runs in;
//! `pipes` and `stdio` its descriptors and whose they are; `process_tree` finds and kills the descendants of an exec; `log` and `record` what is left on
//! disk; `poll`, `peers`, `listener`, `request` descriptors and connections; `sys` the system
//! calls without a safe wrapper.
//!
//! Invariants: one thread, and nothing but the file systems of logs and records can make it wait (what
//! changes limits is a process of its own, `call/update.rs`);
//! no buffer grows with time or with what a container or a daemon does; an exit is on disk before
//! it is told; a panic would be the pod's loss, so that nothing on the way unwraps.

#![deny(unsafe_code)]

use std::io::{self, Write};

mod attach;
mod bundle;
mod call;
mod clock;
mod container;
mod dial;
mod exec;
pub mod external;
mod failure;
mod filter;
mod lifecycle;
mod listener;
pub mod log;
mod peers;
mod pipes;
mod pod;
mod poll;
mod process;
pub mod process_tree;
mod reap;
mod record;
mod request;
mod run_dir;
mod shim;
mod startup;
mod stdio;
#[allow(unsafe_code)]
mod sys;
mod terminal;

pub use startup::run;

/// Why a shim cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Started in another way than a daemon does.
    #[error(
        "usage: skiff-shim --run-dir /absolute/path [--user-namespace], with a SOCK_SEQPACKET socket as stdin"
    )]
    Usage,
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was attempted, and on what.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The pod's namespaces cannot be made.
    #[error(transparent)]
    Runtime(#[from] skiff_runtime::Error),
}

impl Error {
    fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            what: what.into(),
            source: source.into(),
        }
    }
}

/// Writes a line to standard error, which is the log in the run directory. For what concerns no
/// request; there is nobody to tell when that fails.
pub fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "skiff-shim: {message}");
}
