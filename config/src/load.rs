//! Files into a [`Config`].

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;
use toml::{Table, Value};

use crate::check::checked_absolute;
use crate::reload::Places;
use crate::{Config, Endpoint, LogFormat, LogLevel};

/// The file that is read when none is named.
pub const DEFAULT_PATH: &str = "/etc/skiff/skiff.toml";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or directory could not be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file says something that cannot be meant.
    #[error("{}:{line}: {}{message}", path.display(), prefix(key))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Dotted path of the key; empty when the file is not TOML at that place.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// The files together, or a flag, say something that cannot be meant.
    #[error("configuration: {0}")]
    Merged(String),
}

fn prefix(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!("{key}: ")
    }
}

/// A configuration and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// The files that were read, in their order.
    pub files: Vec<PathBuf>,
    /// Where keys are set.
    pub places: Places,
}

/// Command line flags; they win over all files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<Endpoint>,
    /// `--root`
    pub root: Option<PathBuf>,
    /// `--state`
    pub state: Option<PathBuf>,
    /// `--log-level`
    pub log_level: Option<LogLevel>,
    /// `--log-format`
    pub log_format: Option<LogFormat>,
    /// `--signature-policy`
    pub signature_policy: Option<PathBuf>,
    /// `--signature-policy-dir`
    pub signature_policy_dir: Option<PathBuf>,
}

impl Config {
    /// Reads `file` and the `*.toml` files of `file` with `.d` appended. Without a name the file
    /// is [`DEFAULT_PATH`], and may be missing; a file that was named must be there.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Loaded, ConfigError> {
        let main = file.unwrap_or(Path::new(DEFAULT_PATH));
        let mut files = Vec::new();
        let mut merged = Table::new();
        let mut places = Places::default();
        match std::fs::read_to_string(main) {
            Ok(text) => {
                merge(&mut merged, parse(main, &text)?);
                places.add(main, &text);
                files.push(main.to_owned());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && file.is_none() => {}
            Err(source) => {
                return Err(ConfigError::Read {
                    path: main.to_owned(),
                    source,
                });
            }
        }
        for path in drop_ins(main)? {
            let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read {
                path: path.clone(),
                source,
            })?;
            merge(&mut merged, parse(&path, &text)?);
            places.add(&path, &text);
            files.push(path);
        }
        let mut config =
            Self::deserialize(merged).map_err(|e| ConfigError::Merged(e.message().to_owned()))?;
        config.apply(overrides)?;
        Ok(Loaded {
            config,
            files,
            places,
        })
    }

    fn apply(&mut self, overrides: &Overrides) -> Result<(), ConfigError> {
        let flag = |path: &PathBuf, name: &str| {
            checked_absolute(path.clone())
                .map_err(|message| ConfigError::Merged(format!("{name}: {message}")))
        };
        if let Some(listen) = &overrides.listen {
            self.listen = listen.clone();
        }
        if let Some(root) = &overrides.root {
            self.root = flag(root, "--root")?;
        }
        if let Some(state) = &overrides.state {
            self.state = flag(state, "--state")?;
        }
        if let Some(path) = &overrides.signature_policy {
            self.image.signature_policy = Some(flag(path, "--signature-policy")?);
        }
        if let Some(path) = &overrides.signature_policy_dir {
            self.image.signature_policy_dir = Some(flag(path, "--signature-policy-dir")?);
        }
        if let Some(level) = overrides.log_level {
            self.log.level = level;
        }
        if let Some(format) = overrides.log_format {
            self.log.format = format;
        }
        self.runtime.check().map_err(ConfigError::Merged)?;
        if self.root == self.state {
            let path = self.root.display();
            return Err(ConfigError::Merged(format!(
                "root and state are both {path}"
            )));
        }
        self.streaming.check().map_err(ConfigError::Merged)
    }

    /// The configuration as a complete TOML file.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|e| ConfigError::Merged(e.to_string()))
    }
}

/// `*.toml` of the drop-in directory in the order of their names; hidden files are not read.
fn drop_ins(main: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut dir = main.as_os_str().to_owned();
    dir.push(".d");
    let dir = PathBuf::from(dir);
    let failed = |source| ConfigError::Read {
        path: dir.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// One file, judged by itself, so that its errors have their line. Every key has a default:
/// a part of a configuration is a configuration.
fn parse(path: &Path, text: &str) -> Result<Table, ConfigError> {
    let invalid = |e: toml::de::Error| {
        let span = e.span().unwrap_or_default();
        ConfigError::Invalid {
            path: path.to_owned(),
            line: line(text, span.start),
            key: key(text, &span),
            message: e.message().lines().collect::<Vec<_>>().join(" "),
        }
    };
    toml::from_str::<Config>(text).map_err(invalid)?;
    text.parse().map_err(invalid)
}

pub(crate) fn line(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
}

/// The dotted path of the innermost key whose name or value is at `span`; empty when there is
/// none, or the text is not TOML.
fn key(text: &str, span: &Range<usize>) -> String {
    let table = DeTable::parse(text).ok();
    table
        .and_then(|table| find(table.get_ref(), span))
        .unwrap_or_default()
}

fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let within = |place: Range<usize>| place.start <= span.start && span.end <= place.end;
    table.iter().find_map(|(name, value)| {
        let inner = value
            .get_ref()
            .as_table()
            .and_then(|inner| find(inner, span));
        match inner {
            Some(inner) => Some(format!("{}.{inner}", name.get_ref())),
            None if within(name.span()) || within(value.span()) => Some(name.get_ref().to_string()),
            None => None,
        }
    })
}

/// Tables are merged key by key; anything else is replaced.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
