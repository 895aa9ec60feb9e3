//! `[runtime]`: how pods are run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Handler, HandlerName};

/// How pods are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Name that a RuntimeClass may use for the built-in runtime, beside the empty one.
    pub default_handler: HandlerName,
    /// The shim's program.
    pub shim: Shim,
    /// Shims kept ready for the next pods.
    #[serde(deserialize_with = "spare_shims")]
    pub spare_shims: usize,
    /// Pods and their files are labelled where the host has SELinux. Otherwise labels in requests mean
    /// nothing.
    pub selinux: bool,
    /// What further names stand for.
    pub handlers: BTreeMap<HandlerName, Handler>,
}

impl Runtime {
    /// What cannot be meant, of tables whose parts may come from several files.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, handler) in &self.handlers {
            let wrong = |why| format!("runtime.handlers.{name}: {why}");
            if *name == self.default_handler {
                return Err(wrong("is the name of the default handler".into()));
            }
            handler.check().map_err(wrong)?;
        }
        Ok(())
    }
}

/// Most shims that may be kept ready: each is a process with three namespaces.
const MAX_SPARE_SHIMS: usize = 64;

impl Default for Runtime {
    fn default() -> Self {
        Self {
            default_handler: HandlerName::default(),
            shim: Shim::default(),
            spare_shims: 4,
            selinux: true,
            handlers: BTreeMap::new(),
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

fn spare_shims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        number if number <= MAX_SPARE_SHIMS => Ok(number),
        number => Err(D::Error::custom(format!(
            "{number} is more than {MAX_SPARE_SHIMS}"
        ))),
    }
}
