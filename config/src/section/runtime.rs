//! `[runtime]`: how pods are run.

use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// How pods are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Name that a RuntimeClass may use for the built-in runtime, beside the empty one.
    #[serde(deserialize_with = "handler_name")]
    pub default_handler: String,
    /// The shim's program.
    pub shim: Shim,
    /// Shims kept ready for the next pods.
    #[serde(deserialize_with = "spare_shims")]
    pub spare_shims: usize,
}

/// Most shims that may be kept ready: each is a process with three namespaces.
const MAX_SPARE_SHIMS: usize = 64;

impl Default for Runtime {
    fn default() -> Self {
        Self {
            default_handler: "skiff".into(),
            shim: Shim::default(),
            spare_shims: 4,
        }
    }
}

/// The shim's program: an absolute path, or a name to be found beside the daemon's own program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Shim(PathBuf);

impl Shim {
    /// The absolute path, for a daemon whose own program is at `daemon`.
    pub fn path(&self, daemon: &Path) -> PathBuf {
        match daemon.parent() {
            Some(dir) => dir.join(&self.0),
            None => self.0.clone(),
        }
    }
}

impl Default for Shim {
    fn default() -> Self {
        Self("skiff-shim".into())
    }
}

impl<'de> Deserialize<'de> for Shim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        if path.is_absolute() || (path.components().count() == 1 && path.file_name().is_some()) {
            return Ok(Self(path));
        }
        let message = format!(
            "{} is neither an absolute path nor a mere name",
            path.display()
        );
        Err(D::Error::custom(message))
    }
}

/// The names a RuntimeClass may have as handler: a DNS label (Kubernetes, RuntimeClass).
fn handler_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: char| c != '-';
    if (1..=63).contains(&name.len())
        && name.chars().all(plain)
        && name.starts_with(edge)
        && name.ends_with(edge)
    {
        return Ok(name);
    }
    Err(D::Error::custom(format!(
        "{name:?} is not a name of 1 to 63 letters a-z, digits and -"
    )))
}

fn spare_shims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        number if number <= MAX_SPARE_SHIMS => Ok(number),
        number => Err(D::Error::custom(format!(
            "{number} is more than {MAX_SPARE_SHIMS}"
        ))),
    }
}
