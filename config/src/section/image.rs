//! `[image]`: image pulls.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::check::{absolute, absolute_or_none, empty_for_none, some_size, some_time};
use crate::size::Size;
use crate::span::Span;

/// Image pulls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Image {
    /// Directory of `<host>/hosts.toml` files: mirrors, certificates, plain HTTP.
    #[serde(deserialize_with = "absolute")]
    pub config_path: PathBuf,
    /// Images the kubelet must not collect: references, or text with `*` at its start or end.
    pub pinned: Vec<String>,
    /// Layers downloaded and unpacked at the same time, over all pulls.
    pub parallel_layers: NonZeroUsize,
    /// A pull that receives nothing for this long is aborted.
    #[serde(deserialize_with = "some_time")]
    pub progress_timeout: Span,
    /// Most bytes that one layer may unpack to.
    #[serde(deserialize_with = "some_size")]
    pub max_layer_size: Size,
    /// Signatures that images need: a file as containers-policy.json(5) has it; none: nobody's.
    #[serde(
        deserialize_with = "absolute_or_none",
        serialize_with = "empty_for_none"
    )]
    pub signature_policy: Option<PathBuf>,
    /// Directory of `<namespace>.json`, which hold in the place of the one for all.
    #[serde(
        deserialize_with = "absolute_or_none",
        serialize_with = "empty_for_none"
    )]
    pub signature_policy_dir: Option<PathBuf>,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            config_path: "/etc/skiff/certs.d".into(),
            pinned: Vec::new(),
            parallel_layers: NonZeroUsize::new(6).unwrap_or(NonZeroUsize::MIN),
            progress_timeout: Span::seconds(300),
            max_layer_size: Size::gib(64),
            signature_policy: None,
            signature_policy_dir: None,
        }
    }
}
