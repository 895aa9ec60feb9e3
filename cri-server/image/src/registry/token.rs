//! Answering a 401: with basic credentials, or with a bearer token by the distribution
//! specification's token protocol, and by OAuth2 where an identity token is to be exchanged.

use std::sync::PoisonError;

use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, Url};
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::error::RegistryError;
use super::host::{Host, error_message};
use crate::auth::Auth;

/// Longest answer of a token server in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// What we call ourselves to OAuth2 servers.
const CLIENT_ID: &str = "skiff";

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// What a bearer challenge asks for.
struct Wanted<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scope: &'a str,
}

impl Host {
    /// Finds out how to answer a 401.
    pub(super) async fn authenticate(&self, response: &Response) -> Result<(), RegistryError> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = challenge::choose(headers.iter().filter_map(|value| value.to_str().ok()));
        let auth = self.auth.as_ref();
        let denied = |message: &str| RegistryError::Denied {
            host: self.name(),
            message: message.to_owned(),
        };
        let value = match challenge {
            None => return Err(denied("401 without a challenge that we know")),
            Some(Challenge::Basic) => match auth.and_then(Auth::basic) {
                Some(basic) => basic,
                None if auth.is_some() => {
                    return Err(denied(
                        "it wants user name and password, and was given a token",
                    ));
                }
                None => return Err(denied("it wants credentials, and none were given")),
            },
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
            }) => {
                let ours = format!("repository:{}:pull", self.repository);
                let token = match auth.filter(|auth| !auth.registry_token.is_empty()) {
                    Some(auth) => auth.registry_token.clone(),
                    None => {
                        let wanted = Wanted {
                            realm: &realm,
                            service: service.as_deref(),
                            scope: scope.as_deref().unwrap_or(&ours),
                        };
                        fetch(self, &wanted, auth).await?
                    }
                };
                format!("Bearer {token}")
            }
        };
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| denied("credentials with characters that no header can carry"))?;
        value.set_sensitive(true);
        *self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }
}

/// Asks the token server of a challenge. Without credentials the token is an anonymous one.
async fn fetch(
    host: &Host,
    wanted: &Wanted<'_>,
    auth: Option<&Auth>,
) -> Result<String, RegistryError> {
    let realm = Url::parse(wanted.realm)
        .map_err(|e| host.protocol(format!("token realm {:?}: {e}", wanted.realm)))?;
    if auth.is_some() && realm.scheme() != "https" && host.is_https() {
        return Err(host.protocol(format!("will not send credentials to {realm} unencrypted")));
    }
    let client = host.client()?;
    let request = match auth.filter(|auth| !auth.identity_token.is_empty()) {
        Some(auth) => {
            let mut form = vec![
                ("grant_type", "refresh_token"),
                ("refresh_token", &auth.identity_token),
                ("client_id", CLIENT_ID),
                ("scope", wanted.scope),
            ];
            form.extend(wanted.service.map(|service| ("service", service)));
            client.post(realm).form(&form)
        }
        None => {
            let mut url = realm;
            if let Some(service) = wanted.service {
                url.query_pairs_mut().append_pair("service", service);
            }
            url.query_pairs_mut().append_pair("scope", wanted.scope);
            let request = client.get(url);
            match auth.and_then(Auth::basic) {
                Some(basic) => request.header("authorization", basic),
                None => request,
            }
        }
    };
    let response = host.patient(request.send()).await?;
    let status = response.status();
    let body = host.body(response, MAX_ANSWER).await?;
    if status.is_server_error() {
        let message = format!("token server: {}", error_message(&body));
        return Err(RegistryError::Server {
            host: host.name(),
            status: status.as_u16(),
            message,
        });
    }
    if !status.is_success() {
        let message = format!("token server: {status}: {}", error_message(&body));
        return Err(RegistryError::Denied {
            host: host.name(),
            message,
        });
    }
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|e| host.protocol(format!("token server's answer: {e}")))?;
    let token = if answer.token.is_empty() {
        answer.access_token
    } else {
        answer.token
    };
    if token.is_empty() {
        return Err(host.protocol("token server's answer has no token".into()));
    }
    Ok(token)
}
