//! What a running daemon takes up from a changed configuration.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::{Config, ConfigError};

/// The outcome of reading the configuration anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// The running configuration with the new values that can be taken up.
    pub config: Config,
    /// Dotted keys that differ from the files still, and will until the daemon is restarted.
    pub needs_restart: Vec<String>,
}

impl Config {
    /// What becomes of this running configuration when the files now say `new`.
    ///
    /// Taken up are `log.level`, `runtime.spare_shims` and everything in `[container]`. The rest
    /// shapes what is made at start.
    pub fn reload(&self, new: &Self) -> Result<Reload, ConfigError> {
        let mut config = self.clone();
        config.log.level = new.log.level;
        config.runtime.spare_shims = new.runtime.spare_shims;
        config.container = new.container.clone();
        let (running, wanted) = (leaves(&config)?, leaves(new)?);
        let names = running.keys().chain(wanted.keys());
        let mut needs_restart: Vec<_> = names
            .filter(|name| running.get(*name) != wanted.get(*name))
            .cloned()
            .collect();
        needs_restart.sort();
        needs_restart.dedup();
        Ok(Reload {
            config,
            needs_restart,
        })
    }
}

fn leaves(config: &Config) -> Result<BTreeMap<String, Value>, ConfigError> {
    let table = Table::try_from(config).map_err(|e| ConfigError::Merged(e.to_string()))?;
    let mut leaves = BTreeMap::new();
    collect(table, "", &mut leaves);
    Ok(leaves)
}

fn collect(table: Table, prefix: &str, leaves: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            Value::Table(inner) => collect(inner, &format!("{name}."), leaves),
            value => {
                leaves.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogFormat, LogLevel};

    #[test]
    fn some_keys_are_taken_up_and_the_others_named() {
        let running = Config::default();
        let mut new = Config::default();
        new.log.level = LogLevel::Debug;
        new.log.format = LogFormat::Json;
        new.container.default_capabilities.clear();
        new.container
            .default_sysctls
            .insert("net.a".parse().unwrap(), "1".into());
        new.image.pinned.push("x".into());
        let reload = running.reload(&new).unwrap();
        assert_eq!(reload.config.log.level, LogLevel::Debug);
        assert_eq!(reload.config.log.format, LogFormat::Text);
        assert_eq!(reload.config.container, new.container);
        assert_eq!(reload.needs_restart, ["image.pinned", "log.format"]);
    }

    #[test]
    fn nothing_changed_needs_nothing() {
        let config = Config::default();
        let reload = config.reload(&config).unwrap();
        assert_eq!(
            reload,
            Reload {
                config: config.clone(),
                needs_restart: Vec::new()
            }
        );
    }
}
