//! How a container ended, in the words of the CRI.

use serde::{Deserialize, Serialize};
use skiff_shim_proto::record::ExitRecord;

/// Exit code when nobody knows: what a status out of range counts as.
const UNKNOWN: i32 = 255;

/// The reason of one whose command could not be executed.
const START_ERROR: &str = "StartError";

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0-255; 128 + signal for a signalled process.
    pub code: i32,
    /// One of the words a kubelet knows, or one of ours where it has none.
    pub reason: String,
    /// The story, when there is one.
    pub message: String,
    /// Nanoseconds since the epoch, never 0.
    pub started_at: i64,
    /// Nanoseconds since the epoch, never 0.
    pub finished_at: i64,
}

impl From<ExitRecord> for Exit {
    fn from(record: ExitRecord) -> Self {
        let finished_at = record.finished_at.max(1);
        let started_at = if record.started_at > 0 {
            record.started_at
        } else {
            finished_at
        };
        let (reason, message) = match record.start_error {
            Some(message) => (START_ERROR, message),
            // One that went on after the kernel had killed a child of it, and ended well.
            None if record.code == 0 => ("Completed", String::new()),
            None if record.oom_killed => ("OOMKilled", String::new()),
            None => ("Error", String::new()),
        };
        Self {
            code: record.code,
            reason: reason.into(),
            message,
            started_at,
            finished_at,
        }
    }
}

impl Exit {
    /// The command could not be executed; `code` is what a shell would give.
    pub fn start_error(code: i32, message: String, now: i64) -> Self {
        let reason = START_ERROR.into();
        Self {
            code,
            reason,
            message,
            started_at: now,
            finished_at: now,
        }
    }

    /// Whether its command never ran.
    pub fn is_start_error(&self) -> bool {
        self.reason == START_ERROR
    }

    /// The shim ended before it could tell; what was left of the container has been killed.
    pub fn shim_lost(started_at: Option<i64>, now: i64) -> Self {
        Self {
            code: UNKNOWN,
            reason: "ShimDied".into(),
            message: "the pod's shim ended unexpectedly; what was left of the container was killed"
                .into(),
            started_at: started_at.unwrap_or(now),
            finished_at: now,
        }
    }

    /// The node was started anew while the container existed.
    pub fn rebooted(started_at: Option<i64>, now: i64) -> Self {
        Self {
            code: UNKNOWN,
            reason: "NodeRestarted".into(),
            message: "the node was restarted; how the container ended was not recorded".into(),
            started_at: started_at.unwrap_or(now),
            finished_at: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(code: i32) -> ExitRecord {
        ExitRecord {
            version: 1,
            id: "c".into(),
            code,
            signal: 0,
            oom_killed: false,
            started_at: 10,
            finished_at: 20,
            start_error: None,
        }
    }

    #[test]
    fn reasons_are_those_a_kubelet_knows() {
        let oom = ExitRecord {
            oom_killed: true,
            signal: 9,
            ..record(137)
        };
        let survivor = ExitRecord {
            oom_killed: true,
            ..record(0)
        };
        let start = ExitRecord {
            start_error: Some("exec /x".into()),
            ..record(127)
        };
        for (record, reason, message) in [
            (record(0), "Completed", ""),
            (record(1), "Error", ""),
            (record(143), "Error", ""),
            (oom, "OOMKilled", ""),
            (survivor, "Completed", ""),
            (start, "StartError", "exec /x"),
        ] {
            let code = record.code;
            let exit = Exit::from(record);
            assert_eq!((exit.code, exit.reason.as_str()), (code, reason));
            assert_eq!(exit.message, message);
        }
    }

    /// A kubelet shows a time of 0 as 1970.
    #[test]
    fn times_are_never_zero() {
        let never = Exit::from(ExitRecord {
            started_at: 0,
            ..record(127)
        });
        assert_eq!((never.started_at, never.finished_at), (20, 20));
        let torn = Exit::from(ExitRecord {
            started_at: 0,
            finished_at: 0,
            ..record(1)
        });
        assert!(torn.started_at > 0 && torn.finished_at > 0);
        assert_eq!(Exit::rebooted(None, 5).started_at, 5);
    }
}
