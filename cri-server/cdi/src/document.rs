//! One file: devices of one kind and what each changes in a container.
//!
//! The names of the fields are those of the CDI specification. A field that it does not have makes
//! a file invalid: what cannot be carried out must not be passed over.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use crate::edits::ContainerEdits;
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

/// A complaint about a field.
pub(crate) fn field(field: &str, reason: impl Into<String>) -> DocumentError {
    DocumentError::Field {
        field: field.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edits::HookName;

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
