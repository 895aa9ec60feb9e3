//! Getting a bearer token: the distribution specification's token protocol, and OAuth2 where an
//! identity token is to be exchanged.

use reqwest::Url;
use serde::Deserialize;

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
pub(super) struct Wanted<'a> {
    pub(super) realm: &'a str,
    pub(super) service: Option<&'a str>,
    pub(super) scope: &'a str,
}

/// Asks the token server of a challenge. Without credentials the token is an anonymous one.
pub(super) async fn fetch(
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
