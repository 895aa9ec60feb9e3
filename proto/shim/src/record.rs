//! Files that a shim writes and a daemon reads, perhaps another version of it, perhaps after
//! both have died.

use serde::{Deserialize, Serialize};

/// How a container ended. Written by the shim to [`crate::message::Create::exit_path`] as JSON,
/// under a temporary name in the same directory and then renamed, before anyone is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Layout of this record; 1.
    pub version: u32,
    /// Container id.
    pub id: String,
    /// 0-255; 128 + signal for a signalled process.
    pub code: i32,
    /// The signal that ended it, or 0.
    #[serde(default)]
    pub signal: i32,
    /// The cgroup counted an OOM kill (`memory.events`, `oom_kill`).
    #[serde(default)]
    pub oom_killed: bool,
    /// Nanoseconds since the epoch; 0 when it never started.
    pub started_at: i64,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    /// Set when the command never ran: why.
    #[serde(default)]
    pub start_error: Option<String>,
}

/// File names under the run directory of a shim, `<state>/shims/<shim id>/`.
pub mod run_dir {
    /// Listening `SOCK_SEQPACKET` socket, for a daemon that was restarted.
    pub const SOCKET: &str = "socket";
    /// Standard error of the shim: empty unless something is wrong.
    pub const LOG: &str = "log";
}
