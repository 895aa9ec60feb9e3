//! One file: devices of one kind and what each changes in a container.
//!
//! The names of the fields are those of the CDI specification. A field that it does not have makes
//! a file invalid: what cannot be carried out must not be passed over.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use serde::Deserialize;

use crate::name::{Kind, check_device};

/// Versions of the specification whose documents are understood.
pub const VERSIONS: [&str; 8] = [
    "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0",
];

/// Why a document is not valid.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not JSON, or not of the right form.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It is not YAML, or not of the right form.
    #[error("{0}")]
    Yaml(String),
    /// A field cannot be meant.
    #[error("{field}: {reason}")]
    Field {
        /// Path of the field.
        field: String,
        /// What is wrong with it, the value included.
        reason: String,
    },
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    /// The devices.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// What any of the devices changes.
    #[serde(default)]
    pub container_edits: ContainerEdits,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// Its name among the devices of its kind.
    pub name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    /// What it changes.
    #[serde(default)]
    pub container_edits: ContainerEdits,
}

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

impl Document {
    /// Reads JSON.
    pub fn from_json(text: &str) -> Result<(Kind, Self), DocumentError> {
        serde_json::from_str::<Self>(text)?.checked()
    }

    /// Reads YAML.
    pub fn from_yaml(text: &str) -> Result<(Kind, Self), DocumentError> {
        serde_saphyr::from_str::<Self>(text)
            .map_err(|e| DocumentError::Yaml(e.to_string()))?
            .checked()
    }

    fn checked(self) -> Result<(Kind, Self), DocumentError> {
        if !VERSIONS.contains(&self.cdi_version.as_str()) {
            let reason = format!(
                "{:?} is not a version from {} to {}",
                self.cdi_version,
                VERSIONS[0],
                VERSIONS[VERSIONS.len() - 1]
            );
            return Err(field("cdiVersion", reason));
        }
        let kind = self.kind.parse();
        let kind: Kind =
            kind.map_err(|reason| field("kind", format!("{:?}: {reason}", self.kind)))?;
        if self.devices.is_empty() {
            return Err(field("devices", "there is none"));
        }
        let mut names = HashSet::new();
        for (i, device) in self.devices.iter().enumerate() {
            let at = format!("devices[{i}].name");
            check_device(&device.name)
                .map_err(|reason| field(&at, format!("{:?}: {reason}", device.name)))?;
            if !names.insert(&device.name) {
                return Err(field(&at, format!("{:?} is there twice", device.name)));
            }
            device
                .container_edits
                .check(&format!("devices[{i}].containerEdits"))?;
        }
        self.container_edits.check("containerEdits")?;
        Ok((kind, self))
    }
}

impl ContainerEdits {
    /// Nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn check(&self, at: &str) -> Result<(), DocumentError> {
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
    pub fn host_path(&self) -> &std::path::Path {
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

fn check_absolute(path: &std::path::Path, at: &str) -> Result<(), DocumentError> {
    if path.is_absolute() {
        Ok(())
    } else {
        Err(field(at, format!("{} is not absolute", path.display())))
    }
}

fn field(field: &str, reason: impl Into<String>) -> DocumentError {
    DocumentError::Field {
        field: field.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = include_str!("../tests/full.yaml");

    #[test]
    fn every_field_is_read() {
        let (kind, document) = Document::from_yaml(FULL).unwrap();
        assert_eq!(kind.to_string(), "vendor.com/device");
        let common = &document.container_edits;
        assert_eq!(common.env, ["VENDOR=1"]);
        assert_eq!(common.mounts[0].options, ["ro", "nosuid"]);
        assert_eq!(common.hooks[0].hook_name, HookName::CreateContainer);
        assert_eq!(common.hooks[0].timeout, Some(10));
        let edits = &document.devices[0].container_edits;
        assert_eq!(edits.additional_gids, [44]);
        let node = &edits.device_nodes[0];
        assert_eq!(node.host_path.as_deref(), Some("/dev/vendor0".as_ref()));
        assert_eq!((node.major, node.minor), (Some(511), Some(0)));
        assert_eq!(node.file_mode, Some(0o660));
        let rdt = edits.intel_rdt.as_ref().unwrap();
        assert_eq!((&*rdt.clos_id, rdt.enable_cmt), ("fast", true));
        assert_eq!(edits.net_devices[0].name, "eth1");
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let json = r#"{"cdiVersion":"0.6.0","kind":"v.com/c",
            "devices":[{"name":"0","containerEdits":{"env":["A=b"]}}]}"#;
        let yaml = "cdiVersion: \"0.6.0\"\nkind: v.com/c\n\
            devices:\n- name: \"0\"\n  containerEdits:\n    env: [A=b]\n";
        let json = Document::from_json(json).unwrap();
        assert_eq!(json, Document::from_yaml(yaml).unwrap());
    }

    /// A valid document with one of its parts replaced.
    fn refused(from: &str, to: &str) -> String {
        let text = r#"{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[
            {"name":"a","containerEdits":{"env":["A=b"],"deviceNodes":[{"path":"/dev/x"}],
             "mounts":[{"hostPath":"/h","containerPath":"/in"}],
             "hooks":[{"hookName":"createRuntime","path":"/bin/hook"}]}}]}"#;
        Document::from_json(text).unwrap();
        assert!(text.contains(from), "{from}");
        Document::from_json(&text.replace(from, to))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_field() {
        for (from, to, word) in [
            ("0.6.0", "2.0.0", "cdiVersion"),
            ("0.6.0", "0.2.0", "cdiVersion"),
            ("v.com/c", "v.com", "kind"),
            ("\"a\"", "\"a b\"", "devices[0].name"),
            ("A=b", "A", "env[0]"),
            ("A=b", "=b", "env[0]"),
            ("/dev/x", "dev/x", "deviceNodes[0].path"),
            ("/dev/x\"", "/dev/x\",\"type\":\"z\"", "deviceNodes[0].type"),
            ("/dev/x\"", "/dev/x\",\"permissions\":\"x\"", "permissions"),
            ("/dev/x\"", "/dev/x\",\"major\":-1", "major"),
            ("/in\"", "in\"", "mounts[0].containerPath"),
            ("\"/h\"", "\"\"", "mounts[0].hostPath"),
            ("/bin/hook", "hook", "hooks[0].path"),
            ("createRuntime", "someday", "someday"),
            ("\"env\"", "\"environment\"", "environment"),
        ] {
            let error = refused(from, to);
            assert!(error.contains(word), "{to}: {error}");
        }
        let none = r#"{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[]}"#;
        assert!(Document::from_json(none).is_err());
        let twice =
            r#"{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[{"name":"a"},{"name":"a"}]}"#;
        assert!(Document::from_json(twice).is_err());
    }
}
