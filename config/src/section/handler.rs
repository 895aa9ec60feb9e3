//! `[runtime.handlers.NAME]`: what pods of a RuntimeClass are run with.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use oci_spec::runtime::Capability;
use serde::{Deserialize, Serialize};

use super::Container;
use crate::check::checked_absolute;
use crate::size::Size;
use crate::sysctl::SysctlName;
use crate::ulimit::{Ulimit, UlimitName};

/// What pods of a RuntimeClass are run with: another OCI runtime, or the built-in one with other
/// defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Handler {
    /// Program of another OCI runtime with the command line of runc; none: the built-in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<AbsolutePath>,
    /// Arguments of that program before its command.
    pub arguments: Vec<String>,
    /// Where that program keeps what it knows of containers, a directory for each pod; none: below
    /// `state`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<AbsolutePath>,
    /// Annotations of pods that are passed on to that program: names, or their beginnings with `*`.
    pub annotations: Vec<String>,
    /// Seccomp profile that RuntimeDefault means; none: the built-in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<AbsolutePath>,
    /// Whether pods may have privileged containers.
    pub privileged: bool,
    /// What containers start from, where it differs from `[container]`.
    pub container: Overrides,
}

impl Default for Handler {
    fn default() -> Self {
        Self {
            path: None,
            arguments: Vec::new(),
            root: None,
            annotations: Vec::new(),
            seccomp_profile: None,
            privileged: true,
            container: Overrides::default(),
        }
    }
}

impl Handler {
    /// What cannot be meant, of a handler whose parts may come from several files.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.path.is_some() {
            return Ok(());
        }
        let given = [
            ("arguments", !self.arguments.is_empty()),
            ("root", self.root.is_some()),
            ("annotations", !self.annotations.is_empty()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(format!(
                "{key} is for another runtime, and there is no path"
            )),
            None => Ok(()),
        }
    }
}

/// Keys of `[container]` that a handler has for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    shm_size: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_capabilities: Option<Vec<Capability>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_sysctls: Option<BTreeMap<SysctlName, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_ulimits: Option<BTreeMap<UlimitName, Ulimit>>,
}

impl Overrides {
    /// What containers start from.
    pub fn over(&self, base: &Container) -> Container {
        let Self {
            shm_size,
            default_capabilities,
            default_sysctls,
            default_ulimits,
        } = self.clone();
        let base = base.clone();
        Container {
            log_entry_size: base.log_entry_size,
            shm_size: shm_size.unwrap_or(base.shm_size),
            default_capabilities: default_capabilities.unwrap_or(base.default_capabilities),
            default_sysctls: default_sysctls.unwrap_or(base.default_sysctls),
            default_ulimits: default_ulimits.unwrap_or(base.default_ulimits),
        }
    }
}

/// A path that starts at the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
pub struct AbsolutePath(PathBuf);

impl AbsolutePath {
    /// The path.
    pub fn as_path(&self) -> &std::path::Path {
        &self.0
    }
}

impl TryFrom<PathBuf> for AbsolutePath {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        checked_absolute(path).map(Self)
    }
}

impl From<AbsolutePath> for PathBuf {
    fn from(path: AbsolutePath) -> Self {
        path.0
    }
}

/// The name of a handler: a DNS label (Kubernetes, RuntimeClass).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HandlerName(String);

impl HandlerName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for HandlerName {
    fn default() -> Self {
        Self("skiff".into())
    }
}

impl TryFrom<String> for HandlerName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edge = |c: char| c != '-';
        if (1..=63).contains(&name.len())
            && name.chars().all(plain)
            && name.starts_with(edge)
            && name.ends_with(edge)
        {
            return Ok(Self(name));
        }
        Err(format!(
            "{name:?} is not a name of 1 to 63 letters a-z, digits and -"
        ))
    }
}

impl From<HandlerName> for String {
    fn from(name: HandlerName) -> Self {
        name.0
    }
}

impl fmt::Display for HandlerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
