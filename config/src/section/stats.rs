//! `[stats]`: what pods and containers use.

use serde::{Deserialize, Serialize};

use crate::check::a_second_or_more;
use crate::span::Span;

/// How it is found out what pods and containers use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stats {
    /// How often all are looked at while nobody asks.
    #[serde(deserialize_with = "a_second_or_more")]
    pub interval: Span,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            interval: Span::seconds(10),
        }
    }
}
