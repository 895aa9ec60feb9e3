//! The time as the CRI wants it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch, never 0: a client takes 0 for "not set".
pub fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX).max(1)
}
