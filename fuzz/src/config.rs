//! The daemon's configuration.

use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

use skiff_config::endpoint::Endpoint;
use skiff_config::sysctl::SysctlName;
use skiff_config::{Config, ConfigError, Loaded, Overrides, Size, Span};

/// A configuration file: refused with its name, or read to something that is the same once
/// written and read again.
pub fn config_file(data: &[u8]) {
    let dir = crate::scratch();
    let path = dir.path().join("skiff.toml");
    let loaded = match load(&path, data) {
        Ok(loaded) => loaded,
        Err(ConfigError::Merged(_)) => return,
        Err(error) => {
            assert!(error.to_string().contains("skiff.toml"), "{error}");
            return;
        }
    };
    let written = loaded
        .config
        .to_toml()
        .expect("a configuration can be written");
    let again = load(&path, written.as_bytes()).expect("what was written can be read");
    assert_eq!(again.config, loaded.config, "{written}");
}

fn load(path: &Path, text: &[u8]) -> Result<Loaded, ConfigError> {
    std::fs::write(path, text).expect("write the file");
    Config::load(Some(path), &Overrides::default())
}

/// Values with a form of their own: sizes, lengths of time, addresses, kernel parameters.
pub fn config_values(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for value in text.lines() {
        printed_reads_the_same::<Size>(value);
        printed_reads_the_same::<Span>(value);
        printed_reads_the_same::<Endpoint>(value);
        printed_reads_the_same::<SysctlName>(value);
        if let Ok(endpoint) = value.parse::<Endpoint>() {
            assert!(endpoint.path().is_absolute(), "{value:?}");
        }
        if let Ok(name) = value.parse::<SysctlName>() {
            leads_nowhere_else(&name);
        }
    }
}

fn printed_reads_the_same<T>(text: &str)
where
    T: FromStr<Err = String> + Display + PartialEq + Debug,
{
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse(), Ok(value), "{text:?}");
    }
}

/// The file of a parameter is below /proc/sys.
fn leads_nowhere_else(name: &SysctlName) {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = name.to_string().chars().map(swap).collect();
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    assert!(path.split('/').all(plain), "{name} is {path}");
}
