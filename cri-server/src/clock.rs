//! The time as the CRI wants it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One moment, for what is told with its time and also measured by time. A kernel without a vDSO for
/// its clocks has a system call for each look at one.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Nanoseconds since the epoch, never 0.
    pub at: i64,
    /// The same, by a clock that nobody sets.
    pub instant: Instant,
}

impl Moment {
    /// The present moment.
    pub fn now() -> Self {
        Self {
            at: now(),
            instant: Instant::now(),
        }
    }
}

/// Nanoseconds since the epoch, never 0: a client takes 0 for "not set".
pub fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX).max(1)
}
