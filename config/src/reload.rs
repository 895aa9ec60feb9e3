//! What happens when the files are read again while the daemon runs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;
use toml::{Table, Value};

use crate::{Config, ConfigError};

/// Keys, and tables of keys, that a running daemon takes up. Everything else takes a restart.
const TAKEN_UP: [&str; 14] = [
    "cdi.dirs",
    "container",
    "image.config_path",
    "image.max_layer_size",
    "image.pinned",
    "image.progress_timeout",
    "image.signature_policy",
    "image.signature_policy_dir",
    "log.level",
    "network.plugin_timeout",
    "runtime.default_handler",
    "runtime.handlers",
    "runtime.spare_shims",
    "stats.interval",
];

/// A key whose value is another than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its dotted path.
    pub key: String,
    /// Whether a running daemon takes it up.
    pub taken_up: bool,
}

/// Where a key is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// Where keys and tables are set, by their dotted paths; the last file wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<String, Place>);

impl Places {
    /// Where a key is set, or else the table that it is in; `None` when that is no file.
    pub fn of(&self, key: &str) -> Option<&Place> {
        let mut key = key;
        loop {
            if let Some(place) = self.0.get(key) {
                return Some(place);
            }
            key = key.rsplit_once('.')?.0;
        }
    }

    /// Adds a file that has been read without an error.
    pub(crate) fn add(&mut self, path: &Path, text: &str) {
        if let Ok(table) = DeTable::parse(text) {
            self.add_table(path, text, "", table.get_ref());
        }
    }

    fn add_table(&mut self, path: &Path, text: &str, above: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = dotted(above, name.get_ref());
            let line = crate::load::line(text, name.span().start);
            let path_of_file = path.to_owned();
            let place = Place {
                path: path_of_file,
                line,
            };
            if let Some(inner) = value.get_ref().as_table() {
                self.add_table(path, text, &key, inner);
            }
            self.0.insert(key, place);
        }
    }
}

impl Config {
    /// The keys in which `new` differs, by their names.
    pub fn changes(&self, new: &Self) -> Result<Vec<Change>, ConfigError> {
        let mut changes = Vec::new();
        compare("", &self.table()?, &new.table()?, &mut changes);
        Ok(changes)
    }

    /// What holds in a daemon with this configuration that has read `new`.
    pub fn take_up(&self, new: &Self) -> Result<Self, ConfigError> {
        let (mut held, new) = (self.table()?, new.table()?);
        for key in TAKEN_UP {
            replace(&mut held, &new, key);
        }
        Self::deserialize(held).map_err(|e| ConfigError::Merged(e.message().to_owned()))
    }

    fn table(&self) -> Result<Table, ConfigError> {
        Table::try_from(self).map_err(|e| ConfigError::Merged(e.to_string()))
    }
}

fn compare(above: &str, old: &Table, new: &Table, changes: &mut Vec<Change>) {
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        let key = dotted(above, name);
        match (old.get(name), new.get(name)) {
            (old, new) if old == new => {}
            (Some(Value::Table(old)), Some(Value::Table(new))) => {
                compare(&key, old, new, changes);
            }
            _ => {
                let within = |table: &&str| {
                    key.strip_prefix(*table)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                };
                let taken_up = TAKEN_UP.iter().any(within);
                changes.push(Change { key, taken_up });
            }
        }
    }
}

/// Gives `held` the value that `new` has for a dotted key, which is always there.
fn replace(held: &mut Table, new: &Table, key: &str) {
    match key.split_once('.') {
        Some((table, rest)) => {
            let (held, new) = (held.get_mut(table), new.get(table));
            if let (Some(Value::Table(held)), Some(Value::Table(new))) = (held, new) {
                replace(held, new, rest);
            }
        }
        None => {
            if let Some(value) = new.get(key) {
                held.insert(key.to_owned(), value.clone());
            }
        }
    }
}

fn dotted(above: &str, name: &str) -> String {
    match above {
        "" => name.to_owned(),
        above => format!("{above}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Overrides;

    fn load(dir: &Path) -> crate::Loaded {
        Config::load(Some(&dir.join("skiff.toml")), &Overrides::default()).unwrap()
    }

    fn write(dir: &Path, text: &str) -> crate::Loaded {
        std::fs::write(dir.join("skiff.toml"), text).unwrap();
        load(dir)
    }

    #[test]
    fn every_key_that_is_taken_up_is_one() {
        let table = Config::default().table().unwrap();
        for key in TAKEN_UP {
            let mut value = Some(&table);
            let (tables, last) = key.rsplit_once('.').unwrap_or(("", key));
            for name in tables.split('.').filter(|name| !name.is_empty()) {
                value = value
                    .and_then(|table| table.get(name))
                    .and_then(Value::as_table);
            }
            assert!(value.is_some_and(|table| table.contains_key(last)), "{key}");
        }
    }

    #[test]
    fn changes_are_told_by_key_and_taken_up_where_they_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let old = write(dir.path(), "root = '/a'\n[log]\nlevel = 'info'\n").config;
        let new = write(
            dir.path(),
            "root = '/b'\n[log]\nlevel = 'debug'\n[runtime]\nshim = '/b'\n\
             [runtime.handlers.crun]\npath = '/bin/crun'\n",
        );
        let changes = old.changes(&new.config).unwrap();
        let told: Vec<_> = changes
            .iter()
            .map(|c| (c.key.as_str(), c.taken_up))
            .collect();
        assert_eq!(
            told,
            [
                ("log.level", true),
                ("root", false),
                ("runtime.handlers.crun", true),
                ("runtime.shim", false)
            ]
        );
        let held = old.take_up(&new.config).unwrap();
        assert_eq!(held.log.level, crate::LogLevel::Debug);
        assert_eq!(held.runtime.handlers.len(), 1);
        assert_eq!(
            (&held.root, &held.runtime.shim),
            (&old.root, &old.runtime.shim)
        );
        assert!(
            held.changes(&new.config)
                .unwrap()
                .iter()
                .all(|change| !change.taken_up)
        );
    }

    #[test]
    fn a_place_is_where_the_last_file_has_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let drop_ins = dir.path().join("skiff.toml.d");
        std::fs::create_dir(&drop_ins).unwrap();
        let drop_in = drop_ins.join("1.toml");
        std::fs::write(&drop_in, "\n[runtime]\n\nspare_shims = 2\n").unwrap();
        let places = write(dir.path(), "[runtime]\nspare_shims = 1\nshim = '/s'\n").places;
        let place = places.of("runtime.spare_shims").unwrap();
        assert_eq!((place.path.as_path(), place.line), (drop_in.as_path(), 4));
        assert_eq!(places.of("runtime.shim").unwrap().line, 3);
        assert_eq!(places.of("runtime.default_handler").unwrap().line, 2);
        assert_eq!(places.of("image.pinned"), None);
    }
}
