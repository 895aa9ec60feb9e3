//! `[metrics]`: where the daemon's counters are served.

use std::net::SocketAddr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where the daemon's counters can be scraped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Address and port of `/metrics` over plain HTTP; `None`: they are not served.
    #[serde(
        deserialize_with = "address_or_none",
        serialize_with = "empty_for_none"
    )]
    pub address: Option<SocketAddr>,
}

fn address_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let refused = |_| D::Error::custom(format!("{text:?} is not of the form 127.0.0.1:9990"));
    text.parse().map(Some).map_err(refused)
}

fn empty_for_none<S: Serializer>(
    address: &Option<SocketAddr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let text = address.map_or_else(String::new, |address| address.to_string());
    text.serialize(serializer)
}
