//! Credentials of one pull. They come with the request and are kept nowhere.

use std::fmt;

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
