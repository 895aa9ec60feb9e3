//! `[tracing]`: where traces go.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// All of a million.
const MILLION: u32 = 1_000_000;

/// Traces of calls and of the phases of a pod's start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tracing {
    /// The collector, `http://host:port`, spoken to in OTLP over gRPC; empty: there are no traces.
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: String,
    /// Of a million calls that come without a trace, how many begin one.
    #[serde(deserialize_with = "per_million")]
    pub sampling_rate_per_million: u32,
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let authority = text.strip_prefix("http://").unwrap_or_default();
    let port = authority
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    if text.is_empty() || matches!(port, Some(Ok(_))) {
        return Ok(text);
    }
    Err(D::Error::custom(format!(
        "{text:?} is not of the form http://127.0.0.1:4317"
    )))
}

fn per_million<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        number if number <= MILLION => Ok(number),
        number => Err(D::Error::custom(format!("{number} is more than {MILLION}"))),
    }
}
