//! Speaking with one host of a registry: patience, redirects, and what refusals mean. `token`
//! answers challenges, `client` makes the HTTP client.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Method, Response, StatusCode, Url};
use skiff_reference::Digest;

use super::client::whole;
use super::error::RegistryError;
use super::hosts::HostConfig;
use super::{Patience, range_start};
use crate::auth::Auth;
use skiff_reference::Reference;

/// Attempts at a request that fails for reasons that may pass.
const ATTEMPTS: u32 = 3;
const MAX_REDIRECTS: usize = 10;
/// Of a registry's error message, bytes that we read and characters that we repeat.
const MAX_ERROR: u64 = 64 << 10;
const MAX_MESSAGE: usize = 300;

/// What to ask for.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) accept: &'static str,
    /// Bytes that we have already.
    pub(super) offset: u64,
}

/// One host, and what it has told us so far.
pub(super) struct Host {
    pub(super) config: HostConfig,
    pub(super) repository: String,
    /// Whose content we ask a mirror for.
    namespace: Option<String>,
    pub(super) auth: Option<Auth>,
    patience: Patience,
    pub(super) client: OnceLock<Client>,
    /// The `Authorization` that was accepted last.
    pub(super) authorization: Mutex<Option<HeaderValue>>,
    /// Could not be used, so it is not asked again while there are others.
    down: AtomicBool,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("base", &self.config.base)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// A host of the reference's registry. Credentials are for the registry that they name, or
    /// that the reference names: a mirror gets none that were meant for another.
    pub(super) fn new(
        config: HostConfig,
        reference: &Reference,
        auth: Option<&Auth>,
        patience: Patience,
    ) -> Self {
        let auth = auth.filter(|auth| match auth.server() {
            None => config.origin,
            Some("docker.io" | "index.docker.io") => config.name == "registry-1.docker.io",
            Some(server) => server == config.name,
        });
        Self {
            repository: reference.repository().to_owned(),
            namespace: (!config.origin).then(|| reference.registry().to_owned()),
            auth: auth.cloned(),
            patience,
            client: OnceLock::new(),
            authorization: Mutex::new(None),
            down: AtomicBool::new(false),
            config,
        }
    }

    pub(super) fn name(&self) -> String {
        self.config.name.clone()
    }

    pub(super) fn is_https(&self) -> bool {
        self.config.base.starts_with("https:")
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub(super) fn may_pull(&self) -> bool {
        self.config.pull
    }

    /// May be asked for the manifest of a tag or digest.
    pub(super) fn may_resolve(&self, target: &str) -> bool {
        if target.parse::<Digest>().is_ok() {
            self.config.pull
        } else {
            self.config.resolve
        }
    }

    /// Sends a request for `path` within the repository, and again where that may help. Answers
    /// only with a success.
    pub(super) async fn ask(&self, path: &str, ask: Ask) -> Result<Response, RegistryError> {
        let url = self.url(path)?;
        let mut authenticated = false;
        let mut attempt = 1;
        loop {
            let error = match self.follow(url.clone(), &ask).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !authenticated => {
                    self.is_own(&response, &url)?;
                    self.authenticate(&response).await?;
                    authenticated = true;
                    continue;
                }
                Ok(response) => self.refusal(response).await,
                Err(e) => Refusal {
                    error: e,
                    retry_after: None,
                },
            };
            let passing = matches!(
                error.error,
                RegistryError::Connection { .. }
                    | RegistryError::Server { .. }
                    | RegistryError::TooManyRequests { .. }
            );
            // A mirror gets one attempt: there is another host to ask.
            if !passing || attempt == ATTEMPTS || !self.config.origin {
                self.down
                    .fetch_or(error.error.is_unavailable(), Ordering::Relaxed);
                return Err(error.error);
            }
            let backoff = self.patience.backoff * 2u32.pow(attempt - 1);
            let wait = error
                .retry_after
                .unwrap_or(backoff)
                .min(self.patience.retry_after);
            tracing::debug!(host = self.config.name, error = %error.error, ?wait, "trying again");
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    fn url(&self, path: &str) -> Result<Url, RegistryError> {
        let text = format!("{}/{}/{path}", self.config.base, self.repository);
        let mut url = Url::parse(&text).map_err(|e| self.protocol(format!("{text}: {e}")))?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// Sends a request and follows its redirects. What is ours to tell the registry alone
    /// (authorization, configured headers) is not sent to another host, whose answer may be the
    /// one that comes back.
    async fn follow(&self, mut url: Url, ask: &Ask) -> Result<Response, RegistryError> {
        let origin = url.origin();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(ask.accept));
            if ask.offset > 0 {
                let range = format!("bytes={}-", ask.offset);
                headers.insert(
                    RANGE,
                    HeaderValue::try_from(range).expect("digits are a header"),
                );
            }
            if url.origin() == origin {
                self.own_headers(&mut headers)?;
            }
            let request = self
                .client()?
                .request(ask.method.clone(), url.clone())
                .headers(headers);
            let response = self.patient(request.send()).await?;
            let location = match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => response.headers().get(LOCATION),
                _ => return Ok(response),
            };
            let next = location
                .and_then(|location| location.to_str().ok())
                .and_then(|location| url.join(location).ok())
                .ok_or_else(|| self.protocol("redirect without a usable Location".into()))?;
            if !matches!(next.scheme(), "https" | "http")
                || url.scheme() == "https" && next.scheme() != "https"
            {
                let to = next.host_str().unwrap_or_default();
                return Err(self.protocol(format!(
                    "will not follow a redirect from https to {}://{to}",
                    next.scheme()
                )));
            }
            url = next;
        }
        Err(self.protocol(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn own_headers(&self, headers: &mut HeaderMap) -> Result<(), RegistryError> {
        for (name, value) in &self.config.headers {
            let bad = |e: String| self.protocol(format!("configured header {name:?}: {e}"));
            let name: HeaderName = name.parse().map_err(|_| bad("bad name".into()))?;
            let value = HeaderValue::from_str(value).map_err(|e| bad(e.to_string()))?;
            headers.append(name, value);
        }
        let authorization = self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        Ok(())
    }

    /// Refuses a challenge of a host that we were redirected to: it would name the server that
    /// gets our credentials (CVE-2020-15157).
    fn is_own(&self, response: &Response, asked: &Url) -> Result<(), RegistryError> {
        let from = response.url();
        if from.origin() == asked.origin() {
            return Ok(());
        }
        Err(RegistryError::Denied {
            host: self.name(),
            message: format!(
                "it redirects to {}, which asks for credentials; they are given to the registry \
                 alone (its redirects must be signed, or that host named in the reference)",
                from.origin().ascii_serialization()
            ),
        })
    }

    /// What a response other than a success means.
    async fn refusal(&self, response: Response) -> Refusal {
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let message = match self.body(response, MAX_ERROR).await {
            Ok(body) => error_message(&body),
            Err(_) => String::new(),
        };
        let message = if message.is_empty() {
            status.to_string()
        } else {
            message
        };
        let host = self.name();
        let error = match status.as_u16() {
            401 | 403 => RegistryError::Denied { host, message },
            404 | 410 => RegistryError::NotFound { host, message },
            429 => RegistryError::TooManyRequests { host, message },
            status @ 500.. => RegistryError::Server {
                host,
                status,
                message,
            },
            _ => self.protocol(format!("unexpected answer {status}: {message}")),
        };
        Refusal { error, retry_after }
    }

    /// Reads a response whole.
    pub(super) async fn body(
        &self,
        mut response: Response,
        limit: u64,
    ) -> Result<Bytes, RegistryError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(self.protocol(format!("an answer of more than {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The next bytes of a response.
    pub(super) async fn chunk(
        &self,
        response: &mut Response,
    ) -> Result<Option<Bytes>, RegistryError> {
        self.patient(response.chunk()).await
    }

    /// Waits for the network, but not for ever.
    pub(super) async fn patient<T>(
        &self,
        wait: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, RegistryError> {
        let waited = self.patience.progress;
        match tokio::time::timeout(waited, wait).await {
            Err(_) => Err(RegistryError::Stalled {
                host: self.name(),
                waited,
            }),
            Ok(Err(e)) => Err(RegistryError::Connection {
                host: self.name(),
                reason: whole(&e),
            }),
            Ok(Ok(done)) => Ok(done),
        }
    }

    /// Bytes at the start of a response that we have already.
    pub(super) fn skip(&self, response: &Response, offset: u64) -> Result<u64, RegistryError> {
        if offset == 0 || response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(offset);
        }
        match range_start(response) {
            Some(start) if start <= offset => Ok(offset - start),
            _ => Err(self.protocol(format!("asked for bytes from {offset}, got another range"))),
        }
    }

    pub(super) fn verify(
        &self,
        found: Digest,
        expected: Option<Digest>,
        what: &'static str,
    ) -> Result<(), RegistryError> {
        match expected {
            Some(expected) if expected != found => Err(RegistryError::Digest {
                host: self.name(),
                what,
                found,
                expected,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn cut_short(&self, got: u64, size: u64) -> RegistryError {
        let reason = format!("the download ended after {got} of {size} bytes");
        RegistryError::Connection {
            host: self.name(),
            reason,
        }
    }

    pub(super) fn protocol(&self, reason: String) -> RegistryError {
        RegistryError::Protocol {
            host: self.name(),
            reason,
        }
    }
}

/// A response that is not a success.
struct Refusal {
    error: RegistryError,
    retry_after: Option<Duration>,
}

/// What a registry says in an error's body: the codes and messages of the distribution
/// specification, or the text.
pub(super) fn error_message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Error>,
    }
    #[derive(serde::Deserialize)]
    struct Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Errors>(body) {
        Ok(Errors { errors }) => {
            let all: Vec<_> = errors
                .iter()
                .map(|e| format!("{}: {}", e.code, e.message))
                .collect();
            all.join(", ")
        }
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_MESSAGE)
        .collect::<String>()
        .trim()
        .to_owned()
}
