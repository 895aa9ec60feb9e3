//! Figures that are collected only for those who ask for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// They are collected for so long after somebody has asked: clients ask again within a minute or two.
const WHILE: Duration = Duration::from_secs(150);

/// Whether somebody has asked of late.
#[derive(Debug)]
pub(super) struct Wanted {
    began: Instant,
    /// Milliseconds after the beginning; 0 before anybody asked.
    until: AtomicU64,
}

impl Wanted {
    /// Nobody has asked yet.
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            until: AtomicU64::new(0),
        }
    }

    /// Somebody asks.
    pub(super) fn ask(&self) {
        let until = self.began.elapsed() + WHILE;
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Relaxed);
    }

    /// Whether they are to be collected.
    pub(super) fn is_set(&self) -> bool {
        let until = Duration::from_millis(self.until.load(Ordering::Relaxed));
        self.began.elapsed() < until
    }
}
