//! Credentials of one pull. They come with the request and are kept nowhere.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Credentials as a kubelet sends them. Empty strings mean absent.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Auth {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Base64 of `username:password`, used when `username` is empty.
    pub auth: String,
    /// The registry these credentials are for; empty: the one the reference names.
    pub server_address: String,
    /// OAuth2 refresh token, exchanged for an access token.
    pub identity_token: String,
    /// A bearer token to present as it is.
    pub registry_token: String,
}

impl Auth {
    /// Host and port of the registry these are for, without the scheme and path that a docker
    /// configuration may write there. `None`: the one that the reference names.
    pub(crate) fn server(&self) -> Option<&str> {
        let address = self.server_address.as_str();
        let address = address.split_once("://").map_or(address, |(_, rest)| rest);
        let host = address.split('/').next().unwrap_or_default();
        (!host.is_empty()).then_some(host)
    }

    /// The value of a basic `Authorization` header, if there is a user name.
    pub(crate) fn basic(&self) -> Option<String> {
        if !self.username.is_empty() {
            let pair = format!("{}:{}", self.username, self.password);
            return Some(format!("Basic {}", BASE64_STANDARD.encode(pair)));
        }
        let encoded = self.auth.trim();
        (!encoded.is_empty()).then(|| format!("Basic {encoded}"))
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials() {
        let pair = Auth {
            username: "u".into(),
            password: "p".into(),
            ..Auth::default()
        };
        assert_eq!(pair.basic().as_deref(), Some("Basic dTpw"));
        let encoded = Auth {
            auth: "dTpw".into(),
            ..Auth::default()
        };
        assert_eq!(encoded.basic(), pair.basic());
        assert_eq!(Auth::default().basic(), None);
    }

    #[test]
    fn the_server_of_credentials() {
        for (address, server) in [
            ("", None),
            ("https://index.docker.io/v1/", Some("index.docker.io")),
            ("registry.example:5000", Some("registry.example:5000")),
        ] {
            let auth = Auth {
                server_address: address.into(),
                ..Auth::default()
            };
            assert_eq!(auth.server(), server);
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let auth = Auth {
            username: "sesame".into(),
            password: "sesame".into(),
            auth: "sesame".into(),
            server_address: "registry.example".into(),
            identity_token: "sesame".into(),
            registry_token: "sesame".into(),
        };
        let printed = format!("{auth:?}");
        assert!(
            printed.contains("registry.example") && !printed.contains("sesame"),
            "{printed}"
        );
    }
}
