//! What a device, or any device of a document, changes in a container.
//!
//! The names of the fields are those of the CDI specification.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::document::{DocumentError, field};

/// What is changed in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ContainerEdits {
    /// Environment, as `NAME=value`.
    pub env: Vec<String>,
    /// Device nodes.
    pub device_nodes: Vec<DeviceNode>,
    /// Network devices to be moved into the container.
    pub net_devices: Vec<NetDevice>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Programs to be run.
    pub hooks: Vec<Hook>,
    /// Further groups of the process.
    pub additional_gids: Vec<u32>,
    /// Intel Resource Director Technology.
    pub intel_rdt: Option<IntelRdt>,
}

/// A device node. What is not said is as on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DeviceNode {
    /// Where the container has it.
    pub path: PathBuf,
    /// Where the host has it, if elsewhere.
    pub host_path: Option<PathBuf>,
    /// `b`, `c`, `u` or `p`.
    pub r#type: Option<String>,
    /// Major number.
    pub major: Option<i64>,
    /// Minor number.
    pub minor: Option<i64>,
    /// Permission bits.
    pub file_mode: Option<u32>,
    /// Some of `r`, `w` and `m`, or `none`.
    pub permissions: Option<String>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetDevice {
    /// Its name on the host.
    pub host_interface_name: String,
    /// Its name in the container.
    pub name: String,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// What is mounted.
    pub host_path: PathBuf,
    /// Where.
    pub container_path: PathBuf,
    /// How.
    #[serde(default)]
    pub options: Vec<String>,
    /// Type of file system; a bind mount when not said.
    #[serde(default)]
    pub r#type: Option<String>,
}

/// A program of the host to be run at a moment of the container's life.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    /// When.
    pub hook_name: HookName,
    /// The program.
    pub path: PathBuf,
    /// Its arguments, the first being its own name.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment, as `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Seconds after which it is killed.
    #[serde(default)]
    pub timeout: Option<i64>,
}

/// Moments of a container's life, as in the OCI runtime-spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the OCI runtime-spec says what they are")]
pub enum HookName {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

/// Resource Director Technology, as in the OCI runtime-spec.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the OCI runtime-spec says what they are")]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
pub struct IntelRdt {
    #[serde(rename = "closID")]
    pub clos_id: String,
    #[serde(rename = "l3CacheSchema")]
    pub l3_cache_schema: String,
    #[serde(rename = "memBwSchema")]
    pub mem_bw_schema: String,
    pub schemata: Vec<String>,
    #[serde(rename = "enableCMT")]
    pub enable_cmt: bool,
    #[serde(rename = "enableMBM")]
    pub enable_mbm: bool,
    #[serde(rename = "enableMonitoring")]
    pub enable_monitoring: bool,
}

impl ContainerEdits {
    /// Nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses what cannot be meant; `at` is the path of the field that holds these.
    pub(crate) fn check(&self, at: &str) -> Result<(), DocumentError> {
        for (i, entry) in self.env.iter().enumerate() {
            check_variable(entry, &format!("{at}.env[{i}]"))?;
        }
        for (i, node) in self.device_nodes.iter().enumerate() {
            node.check(&format!("{at}.deviceNodes[{i}]"))?;
        }
        for (i, mount) in self.mounts.iter().enumerate() {
            let at = format!("{at}.mounts[{i}]");
            if mount.host_path.as_os_str().is_empty() {
                return Err(field(&format!("{at}.hostPath"), "it is empty"));
            }
            check_absolute(&mount.container_path, &format!("{at}.containerPath"))?;
        }
        for (i, hook) in self.hooks.iter().enumerate() {
            let at = format!("{at}.hooks[{i}]");
            check_absolute(&hook.path, &format!("{at}.path"))?;
            for (n, entry) in hook.env.iter().enumerate() {
                check_variable(entry, &format!("{at}.env[{n}]"))?;
            }
        }
        Ok(())
    }
}

impl DeviceNode {
    /// Where the host has it.
    pub fn host_path(&self) -> &Path {
        self.host_path.as_deref().unwrap_or(&self.path)
    }

    fn check(&self, at: &str) -> Result<(), DocumentError> {
        check_absolute(&self.path, &format!("{at}.path"))?;
        if let Some(path) = &self.host_path {
            check_absolute(path, &format!("{at}.hostPath"))?;
        }
        if let Some(kind) = self.r#type.as_deref()
            && !["", "b", "c", "u", "p"].contains(&kind)
        {
            let reason = format!("{kind:?} is not b, c, u or p");
            return Err(field(&format!("{at}.type"), reason));
        }
        let permissions = self.permissions.as_deref().unwrap_or_default();
        if permissions != "none" && permissions.chars().any(|c| !"rwm".contains(c)) {
            let reason = format!("{permissions:?} is neither made of r, w and m nor none");
            return Err(field(&format!("{at}.permissions"), reason));
        }
        for (name, number) in [("major", self.major), ("minor", self.minor)] {
            if let Some(number) = number
                && u32::try_from(number).is_err()
            {
                let reason = format!("{number} is not the number of a device");
                return Err(field(&format!("{at}.{name}"), reason));
            }
        }
        Ok(())
    }
}

fn check_variable(entry: &str, at: &str) -> Result<(), DocumentError> {
    let has_name = entry
        .split_once('=')
        .is_some_and(|(name, _)| !name.is_empty());
    if has_name && !entry.contains('\0') {
        Ok(())
    } else {
        Err(field(at, format!("{entry:?} is not NAME=value")))
    }
}

fn check_absolute(path: &Path, at: &str) -> Result<(), DocumentError> {
    if path.is_absolute() {
        Ok(())
    } else {
        Err(field(at, format!("{} is not absolute", path.display())))
    }
}
