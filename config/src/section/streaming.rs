//! `[streaming]`: where exec, attach and port forwarding are served.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::check::{absolute_or_none, empty_for_none};

/// Where a kubelet comes for exec, attach and port forwarding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Streaming {
    /// Address and port; port 0 is one that the kernel chooses. Without a certificate it must be
    /// a loopback address.
    pub address: SocketAddr,
    /// Certificate chain for TLS, PEM; none for plain HTTP.
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
}

impl Default for Streaming {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            certificate: None,
            key: None,
        }
    }
}
