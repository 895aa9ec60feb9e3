//! One network: a parsed configuration, ready to make requests from.
//!
//! Invariants: a [`Network`] is complete and valid, nothing of it is read from disk again, and
//! its [`Network::document`] parses to an equal network, so an attachment record that keeps the
//! document can be detached by the configuration that attached it.

use serde_json::{Map, Value, json};

use crate::version::{UnknownVersion, Version};

/// Keys of a plugin's object that a runtime makes and a configuration may not set.
const MADE_BY_RUNTIME: [&str; 3] = ["capabilities", "prevResult", "runtimeConfig"];

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("not JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("key {0:?} is missing")]
    Missing(&'static str),
    #[error("key {key:?} is not {wanted}")]
    Type {
        key: &'static str,
        wanted: &'static str,
    },
    #[error(
        "network name {0:?} is not a letter or digit followed by letters, digits, '_', '.', '-'"
    )]
    Name(String),
    #[error("plugin type {0:?} is not a file name")]
    Kind(String),
    #[error(transparent)]
    Version(#[from] UnknownVersion),
    #[error("plugin {number} of the list: {source}")]
    Plugin {
        number: usize,
        source: Box<ConfigError>,
    },
    #[error("network {0:?} has no plugins")]
    NoPlugins(String),
}

/// A list of plugins to run for every pod.
#[derive(Debug, PartialEq)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) disable_check: bool,
    pub(crate) disable_gc: bool,
    /// At least one.
    pub(crate) plugins: Vec<Plugin>,
    /// The configuration list with everything inlined and one version chosen.
    pub(crate) document: Value,
}

/// One plugin of a network.
#[derive(Debug, PartialEq)]
pub(crate) struct Plugin {
    /// Name of the binary.
    pub(crate) kind: String,
    /// What the plugin wants to be told in `runtimeConfig`.
    pub(crate) capabilities: Vec<String>,
    /// The request without its closing brace and without the parts that differ between pods.
    pub(crate) head: String,
}

/// A configuration whose plugins may not be all known yet: more of them may lie in a directory
/// named after the network.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) name: String,
    /// Plugins of the directory belong to this network.
    pub(crate) takes_more: bool,
    version: Version,
    disable_check: bool,
    disable_gc: bool,
    plugins: Vec<Map<String, Value>>,
}

impl Draft {
    /// Reads a configuration list, or a single plugin's configuration, which is a list of one.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let object = object(json)?;
        let name = string(&object, "name")?.ok_or(ConfigError::Missing("name"))?;
        if !valid_identifier(name) {
            return Err(ConfigError::Name(name.to_owned()));
        }
        let offered = strings(&object, "cniVersions")?;
        let version = Version::choose(string(&object, "cniVersion")?, &offered)?;
        let mut draft = Self {
            name: name.to_owned(),
            takes_more: false,
            version,
            disable_check: flag(&object, "disableCheck")?,
            disable_gc: flag(&object, "disableGC")?,
            plugins: Vec::new(),
        };
        if object.contains_key("type") && !object.contains_key("plugins") {
            draft.plugins.push(object);
            return Ok(draft);
        }
        draft.takes_more = !flag(&object, "loadOnlyInlinedPlugins")?;
        match object.get("plugins") {
            Some(Value::Array(list)) => draft.plugins = objects(list)?,
            Some(_) => {
                return Err(ConfigError::Type {
                    key: "plugins",
                    wanted: "a list",
                });
            }
            None if draft.takes_more => {}
            None => return Err(ConfigError::Missing("plugins")),
        }
        Ok(draft)
    }

    /// Appends a plugin that was found beside the list.
    pub(crate) fn push(&mut self, json: &[u8]) -> Result<(), ConfigError> {
        let plugin = object(json)?;
        kind(&plugin)?;
        self.plugins.push(plugin);
        Ok(())
    }

    /// The network, now that every plugin is known.
    pub(crate) fn finish(self) -> Result<Network, ConfigError> {
        if self.plugins.is_empty() {
            return Err(ConfigError::NoPlugins(self.name));
        }
        let document = json!({
            "name": self.name,
            "cniVersion": self.version.as_str(),
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "loadOnlyInlinedPlugins": true,
            "plugins": self.plugins,
        });
        // A record is read to the same depth as a file, and this lies deeper in one.
        serde_json::from_str::<Value>(&json!({ "network": document }).to_string())?;
        let plugin = |(index, object)| {
            Plugin::new(object, &self.name, self.version).map_err(|e| ConfigError::Plugin {
                number: index + 1,
                source: Box::new(e),
            })
        };
        let plugins = self.plugins.into_iter().enumerate().map(plugin);
        Ok(Network {
            plugins: plugins.collect::<Result<_, _>>()?,
            name: self.name,
            version: self.version,
            disable_check: self.disable_check,
            disable_gc: self.disable_gc,
            document,
        })
    }
}

impl Network {
    /// Reads back a [`Network::document`].
    pub(crate) fn from_document(document: &Value) -> Result<Self, ConfigError> {
        Draft::parse(document.to_string().as_bytes())?.finish()
    }
}

impl Plugin {
    fn new(
        mut object: Map<String, Value>,
        network: &str,
        version: Version,
    ) -> Result<Self, ConfigError> {
        let kind = kind(&object)?.to_owned();
        let capabilities = capabilities(&object)?;
        object.retain(|key, _| {
            !MADE_BY_RUNTIME.contains(&key.as_str()) && !key.starts_with("cni.dev/")
        });
        object.insert("name".into(), network.into());
        object.insert("cniVersion".into(), version.as_str().into());
        let mut head = Value::Object(object).to_string();
        head.pop();
        Ok(Self {
            kind,
            capabilities,
            head,
        })
    }
}

/// A letter or digit, then letters, digits, `_`, `.` or `-`: the specification's rule for network
/// names and container ids, which are both also file names.
pub(crate) fn valid_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn object(json: &[u8]) -> Result<Map<String, Value>, ConfigError> {
    Ok(serde_json::from_slice(json)?)
}

fn objects(list: &[Value]) -> Result<Vec<Map<String, Value>>, ConfigError> {
    let object = |value: &Value| {
        let wanted = ConfigError::Type {
            key: "plugins",
            wanted: "a list of objects",
        };
        value.as_object().cloned().ok_or(wanted)
    };
    list.iter().map(object).collect()
}

fn kind(object: &Map<String, Value>) -> Result<&str, ConfigError> {
    let kind = string(object, "type")?.ok_or(ConfigError::Missing("type"))?;
    if kind.is_empty() || kind == "." || kind == ".." || kind.contains(['/', '\\', '\0']) {
        return Err(ConfigError::Kind(kind.to_owned()));
    }
    Ok(kind)
}

fn capabilities(object: &Map<String, Value>) -> Result<Vec<String>, ConfigError> {
    match object.get("capabilities") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(map)) => Ok(map
            .iter()
            .filter(|(_, wanted)| **wanted == Value::Bool(true))
            .map(|(name, _)| name.clone())
            .collect()),
        Some(_) => Err(ConfigError::Type {
            key: "capabilities",
            wanted: "an object",
        }),
    }
}

fn string<'a>(
    object: &'a Map<String, Value>,
    key: &'static str,
) -> Result<Option<&'a str>, ConfigError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ConfigError::Type {
            key,
            wanted: "a string",
        }),
    }
}

fn strings(object: &Map<String, Value>, key: &'static str) -> Result<Vec<String>, ConfigError> {
    let wrong = || ConfigError::Type {
        key,
        wanted: "a list of strings",
    };
    match object.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list
            .iter()
            .map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect(),
        Some(_) => Err(wrong()),
    }
}

/// A boolean; the strings "true" and "false" are in use too.
fn flag(object: &Map<String, Value>, key: &'static str) -> Result<bool, ConfigError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(ConfigError::Type {
            key,
            wanted: "true or false",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(json: &str) -> Result<Network, ConfigError> {
        Draft::parse(json.as_bytes())?.finish()
    }

    #[test]
    fn a_list_is_read_with_all_its_keys() {
        let network = parse(
            r#"{"cniVersion":"0.4.0","cniVersions":["1.0.0","9.0.0"],"name":"podnet",
                "disableCheck":"True","disableGC":true,"plugins":[
                {"type":"bridge","bridge":"cni0","prevResult":{},"cni.dev/x":1,"keep":1.5},
                {"type":"portmap","capabilities":{"portMappings":true,"dns":false}}]}"#,
        )
        .unwrap();
        assert_eq!(network.name, "podnet");
        assert_eq!(network.version, Version::V1_0_0);
        assert!(network.disable_check && network.disable_gc);
        assert_eq!(network.plugins[1].capabilities, ["portMappings"]);
        let head: Value = serde_json::from_str(&format!("{}}}", network.plugins[0].head)).unwrap();
        assert_eq!(
            head,
            json!({"cniVersion":"1.0.0","name":"podnet","type":"bridge","bridge":"cni0","keep":1.5})
        );
        assert!(!network.plugins[1].head.contains("capabilities"));
    }

    #[test]
    fn a_single_plugin_is_a_list_of_one() {
        let network = parse(r#"{"name":"n","type":"bridge"}"#).unwrap();
        assert_eq!(network.version, Version::V0_1_0);
        assert_eq!(network.plugins.len(), 1);
        assert_eq!(network.plugins[0].kind, "bridge");
    }

    #[test]
    fn the_document_gives_the_same_network() {
        for json in [
            r#"{"name":"n","type":"bridge","cniVersion":"0.3.1","capabilities":{"a":true}}"#,
            r#"{"name":"n","plugins":[{"type":"a"},{"type":"b"}],"disableGC":true}"#,
        ] {
            let network = parse(json).unwrap();
            assert_eq!(Network::from_document(&network.document).unwrap(), network);
        }
    }

    #[test]
    fn faults_are_named() {
        let cases = [
            ("{\n\"name\": oops}", "line 2"),
            ("[]", "not JSON"),
            ("{}", "\"name\" is missing"),
            (r#"{"name":"../x","type":"a"}"#, "network name"),
            (r#"{"name":"","type":"a"}"#, "network name"),
            (r#"{"name":"n","type":"../a"}"#, "not a file name"),
            (r#"{"name":"n","type":".."}"#, "not a file name"),
            (r#"{"name":"n","plugins":{}}"#, "not a list"),
            (r#"{"name":"n","plugins":[]}"#, "has no plugins"),
            (r#"{"name":"n"}"#, "has no plugins"),
            (
                r#"{"name":"n","loadOnlyInlinedPlugins":true}"#,
                "\"plugins\" is missing",
            ),
            (
                r#"{"name":"n","plugins":[{"type":"a"},{}]}"#,
                "plugin 2 of the list: key \"type\"",
            ),
            (r#"{"name":"n","plugins":[1]}"#, "a list of objects"),
            (
                r#"{"name":"n","type":"a","cniVersion":"7.0.0"}"#,
                "cniVersion \"7.0.0\"",
            ),
            (
                r#"{"name":"n","type":"a","cniVersion":1}"#,
                "\"cniVersion\" is not a string",
            ),
            (
                r#"{"name":"n","type":"a","disableGC":"maybe"}"#,
                "not true or false",
            ),
            (
                r#"{"name":"n","type":"a","capabilities":[]}"#,
                "\"capabilities\" is not an object",
            ),
        ];
        for (json, expected) in cases {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }

    #[test]
    fn what_is_too_deep_for_a_record_is_refused() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let of = |depth| {
            parse(&format!(
                r#"{{"name":"n","type":"a","x":{}}}"#,
                nested(depth)
            ))
        };
        assert!(of(100).is_ok());
        assert!(of(126).unwrap_err().to_string().contains("recursion limit"));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Draft::parse(&json).and_then(Draft::finish);
        }

        #[test]
        fn what_is_accepted_survives_its_document(
            name in "[a-z.]{1,3}", kind in "[a-z/.]{1,3}", version in "(0\\.[1-4]|1\\.[01])\\.[01]",
            extra in "[a-zA-Z/.]{1,14}",
        ) {
            let json = json!({"name": name, "type": kind, "cniVersion": version, extra: {"a": [1]}});
            if let Ok(network) = parse(&json.to_string()) {
                prop_assert_eq!(Network::from_document(&network.document).unwrap(), network);
            }
        }
    }
}
