//! Addresses the daemon listens on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest path of a unix socket, in bytes (unix(7), `sun_path` without its final zero).
const MAX_PATH: usize = 107;

/// A unix socket, written `unix:///path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(PathBuf);

impl Endpoint {
    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self("/run/skiff/skiff.sock".into())
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text
            .strip_prefix("unix://")
            .filter(|path| path.starts_with('/'))
        else {
            return Err(format!("{text:?} is not of the form unix:///path"));
        };
        if path.len() > MAX_PATH || path.ends_with('/') || path.contains('\0') {
            let what = "cannot be a socket: a path of at most";
            return Err(format!(
                "{path:?} {what} {MAX_PATH} bytes, not a directory, is needed"
            ));
        }
        Ok(Self(path.into()))
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unix_sockets_are_taken() {
        assert_eq!(
            "unix:///run/a.sock".parse::<Endpoint>().unwrap().path(),
            Path::new("/run/a.sock")
        );
        let long = format!("unix:///{}", "x".repeat(MAX_PATH));
        for bad in [
            "",
            "/run/a.sock",
            "tcp://1.2.3.4:5",
            "unix://run/a.sock",
            "unix:///run/",
            &long,
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
