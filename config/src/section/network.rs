//! `[network]`: CNI.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::check::{absolute, absolute_list, some_time};
use crate::span::Span;

/// CNI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Directory of network configurations; the first by name is used, and changes are noticed.
    #[serde(deserialize_with = "absolute")]
    pub conf_dir: PathBuf,
    /// Directories of plugins, searched in order.
    #[serde(deserialize_with = "absolute_list")]
    pub bin_dirs: Vec<PathBuf>,
    /// Longest time one plugin may run before it is killed.
    #[serde(deserialize_with = "some_time")]
    pub plugin_timeout: Span,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            plugin_timeout: Span::seconds(120),
        }
    }
}
