//! `[cdi]`: devices that vendors describe in files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::check::absolute_list;

/// Devices that vendors describe in files (Container Device Interface).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cdi {
    /// Directories of `.json` and `.yaml` files. What a later one says of a device goes before
    /// what an earlier one says. Changes are noticed.
    #[serde(deserialize_with = "absolute_list")]
    pub dirs: Vec<PathBuf>,
}

impl Default for Cdi {
    fn default() -> Self {
        Self {
            dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
        }
    }
}
