//! `Debug` for the messages that carry secrets: it says that a value is there, never which.
//!
//! Generated `Debug` of every enclosing message ends here, so `{:?}` of a whole request is safe.

use std::fmt;

use crate::v1::{AuthConfig, KeyValue};

/// Stands for a secret of which not even the length is told.
struct Redacted;

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Prints `None` for an empty secret, so that a missing credential can still be told from a present
/// one.
fn redacted(secret: &str) -> Option<Redacted> {
    (!secret.is_empty()).then_some(Redacted)
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Destructured in full: a new field must be looked at here before it can be printed.
        let Self {
            username,
            password,
            auth,
            server_address,
            identity_token,
            registry_token,
        } = self;
        f.debug_struct("AuthConfig")
            .field("username", username)
            .field("password", &redacted(password))
            .field("auth", &redacted(auth))
            .field("server_address", server_address)
            .field("identity_token", &redacted(identity_token))
            .field("registry_token", &redacted(registry_token))
            .finish()
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value: _ } = self;
        f.debug_struct("KeyValue")
            .field("key", key)
            .field("value", &Redacted)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::v1::{
        AuthConfig, ContainerConfig, CreateContainerRequest, KeyValue, PullImageRequest,
    };

    #[test]
    fn debug_of_a_pull_request_tells_no_credential() {
        let request = PullImageRequest {
            auth: Some(AuthConfig {
                username: "robot".into(),
                password: "s3cret-password".into(),
                auth: "s3cret-auth".into(),
                server_address: "registry.example".into(),
                identity_token: "s3cret-identity".into(),
                registry_token: "s3cret-registry".into(),
            }),
            ..Default::default()
        };
        for text in [format!("{request:?}"), format!("{request:#?}")] {
            assert!(!text.contains("s3cret"), "{text}");
            assert_eq!(text.matches("<redacted>").count(), 4, "{text}");
            assert!(
                text.contains("robot") && text.contains("registry.example"),
                "{text}"
            );
        }
    }

    #[test]
    fn debug_shows_which_credentials_are_missing() {
        let auth = AuthConfig {
            password: "s3cret".into(),
            ..Default::default()
        };
        assert_eq!(
            format!("{auth:?}"),
            "AuthConfig { username: \"\", password: Some(<redacted>), auth: None, \
             server_address: \"\", identity_token: None, registry_token: None }"
        );
    }

    #[test]
    fn debug_of_a_create_request_tells_names_of_variables_but_no_values() {
        let env = KeyValue {
            key: "TOKEN".into(),
            value: b"s3cret".to_vec(),
        };
        let config = ContainerConfig {
            envs: vec![env],
            ..Default::default()
        };
        let request = CreateContainerRequest {
            config: Some(config),
            ..Default::default()
        };
        let text = format!("{request:?}");
        // A byte vector prints as numbers, so look for those too.
        assert!(text.contains("TOKEN") && !text.contains("s3cret"), "{text}");
        assert!(!text.contains("115, 51, 99"), "{text}");
    }
}
