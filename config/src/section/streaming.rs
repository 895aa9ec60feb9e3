//! `[streaming]`: where exec, attach and port forwarding are served.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::check::{absolute_or_none, empty_for_none, some_time};
use crate::span::Span;

/// Where a kubelet comes for exec, attach and port forwarding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Streaming {
    /// Address and port; port 0 is one that the kernel chooses. Without a certificate it must be
    /// a loopback address.
    pub address: SocketAddr,
    /// Certificate chain for TLS, PEM; none for plain HTTP. A renewed one is taken up as it is
    /// written, as are the other two files.
    #[serde(
        deserialize_with = "absolute_or_none",
        serialize_with = "empty_for_none"
    )]
    pub certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM.
    #[serde(
        deserialize_with = "absolute_or_none",
        serialize_with = "empty_for_none"
    )]
    pub key: Option<PathBuf>,
    /// Authorities whose certificates clients must have, PEM; none to serve clients without one.
    #[serde(
        deserialize_with = "absolute_or_none",
        serialize_with = "empty_for_none"
    )]
    pub client_ca: Option<PathBuf>,
    /// A connection over which nothing is said for so long is closed.
    #[serde(deserialize_with = "some_time")]
    pub idle_timeout: Span,
}

impl Streaming {
    /// Refuses keys that mean nothing without others.
    pub(crate) fn check(&self) -> Result<(), String> {
        let needed = match (&self.certificate, &self.key, &self.client_ca) {
            (Some(_), None, _) => "streaming.certificate is set without streaming.key",
            (None, Some(_), _) => "streaming.key is set without streaming.certificate",
            (None, None, Some(_)) => "streaming.client_ca is set without streaming.certificate",
            _ => return Ok(()),
        };
        Err(needed.into())
    }
}

impl Default for Streaming {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            certificate: None,
            key: None,
            client_ca: None,
            idle_timeout: Span::seconds(4 * 3600),
        }
    }
}
