//! The registry client: one image's registry and its mirrors, for the time of one pull.
//!
//! [`Registry`] goes through the hosts of hosts.toml until one answers; `host` speaks with one of
//! them (authentication, redirects, patience); `hosts` reads the configuration.

pub mod challenge;
mod client;
mod error;
mod host;
pub mod hosts;
mod token;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, HeaderMap};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;

pub use error::RegistryError;
pub use hosts::HostsError;

use skiff_reference::Digest;

use crate::auth::Auth;
use crate::manifest::{ACCEPT, MAX_DOCUMENT};
use host::{Ask, Host};
use skiff_reference::Reference;

/// Attempts at a blob without a byte of progress between them, on one host.
const BLOB_ATTEMPTS: u32 = 4;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the next bytes of a response, its first included.
    pub(crate) progress: Duration,
    /// Before a second attempt; doubled for each further one.
    pub(crate) backoff: Duration,
    /// At most, when a registry says how long.
    pub(crate) retry_after: Duration,
}

/// The hosts that may have an image.
#[derive(Debug)]
pub(crate) struct Registry {
    reference: Reference,
    hosts: Vec<Host>,
    patience: Patience,
}

/// A manifest or index as it came.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) json: Bytes,
    pub(crate) digest: Digest,
}

impl Registry {
    /// Reads the configuration for the reference's registry. Nothing is sent yet.
    pub(crate) fn new(
        reference: &Reference,
        auth: Option<Auth>,
        certs_dir: &Path,
        patience: Patience,
    ) -> Result<Self, HostsError> {
        let hosts = hosts::load(certs_dir, reference.registry())?
            .into_iter()
            .map(|config| Host::new(config, reference, auth.as_ref(), patience))
            .collect();
        Ok(Self {
            reference: reference.clone(),
            hosts,
            patience,
        })
    }

    /// The digest that a tag stands for, if a host tells without sending the manifest. `None`
    /// when none does: the manifest itself says more, also about what is wrong. An error when no
    /// host is there to be asked for that either.
    pub(crate) async fn resolve(&self, target: &str) -> Result<Option<Digest>, RegistryError> {
        let mut errors = Vec::new();
        for host in self.hosts(|host| host.may_resolve(target)) {
            let ask = Ask {
                method: Method::HEAD,
                accept: ACCEPT,
                offset: 0,
            };
            match host.ask(&format!("manifests/{target}"), ask).await {
                Ok(response) => return Ok(header_digest(response.headers())),
                Err(e) if e.is_silent() => errors.push(e),
                Err(_) => return Ok(None),
            }
        }
        Err(RegistryError::all(&self.reference, errors))
    }

    /// Fetches a manifest or index by tag or digest.
    pub(crate) async fn manifest(&self, target: &str) -> Result<Fetched, RegistryError> {
        let hosts = self.hosts(|host| host.may_resolve(target));
        let wanted = Document {
            path: format!("manifests/{target}"),
            accept: ACCEPT,
            digest: target.parse().ok(),
            name: "manifest",
        };
        self.fetch(&hosts, &wanted).await
    }

    /// Fetches an image's configuration.
    pub(crate) async fn config(&self, digest: Digest) -> Result<Bytes, RegistryError> {
        self.small_blob(digest, "image configuration").await
    }

    /// Fetches what a signature is over.
    pub(crate) async fn payload(&self, digest: Digest) -> Result<Bytes, RegistryError> {
        self.small_blob(digest, "payload of a signature").await
    }

    async fn small_blob(&self, digest: Digest, name: &'static str) -> Result<Bytes, RegistryError> {
        let wanted = Document {
            path: format!("blobs/{digest}"),
            accept: "*/*",
            digest: Some(digest),
            name,
        };
        Ok(self.fetch(&self.hosts(Host::may_pull), &wanted).await?.json)
    }

    async fn fetch(&self, hosts: &[&Host], wanted: &Document) -> Result<Fetched, RegistryError> {
        let mut errors = Vec::new();
        for host in hosts {
            match wanted.fetch(host).await {
                Ok(fetched) => return Ok(fetched),
                Err(e) => errors.push(e),
            }
        }
        Err(RegistryError::all(&self.reference, errors))
    }

    /// Sends a blob's bytes to `sink`, once each: a broken connection is taken up where it broke,
    /// on the next host if need be. Ends early without an error when `sink` is closed. Whether
    /// the bytes are right is the receiver's to check.
    pub(crate) async fn blob(
        &self,
        digest: Digest,
        size: u64,
        sink: mpsc::Sender<Bytes>,
    ) -> Result<(), RegistryError> {
        let mut transfer = Transfer {
            digest,
            size,
            sent: 0,
            sink,
        };
        let mut errors = Vec::new();
        for host in self.hosts(Host::may_pull) {
            match transfer.run(host, self.patience).await {
                Ok(()) => return Ok(()),
                Err(e) => errors.push(e),
            }
        }
        Err(RegistryError::all(&self.reference, errors))
    }

    /// The hosts to ask: those that may be asked and were not found to be down, or all that may
    /// be asked when those are down.
    fn hosts(&self, may: impl Fn(&Host) -> bool) -> Vec<&Host> {
        let all: Vec<&Host> = self.hosts.iter().filter(|host| may(host)).collect();
        let up: Vec<&Host> = all.iter().copied().filter(|host| !host.is_down()).collect();
        if up.is_empty() { all } else { up }
    }
}

/// A document to fetch.
struct Document {
    path: String,
    accept: &'static str,
    /// Its digest, where we know it; otherwise the one that the host announces counts.
    digest: Option<Digest>,
    name: &'static str,
}

impl Document {
    async fn fetch(&self, host: &Host) -> Result<Fetched, RegistryError> {
        let ask = Ask {
            method: Method::GET,
            accept: self.accept,
            offset: 0,
        };
        let response = host.ask(&self.path, ask).await?;
        let announced = header_digest(response.headers());
        let json = host.body(response, MAX_DOCUMENT).await?;
        let digest = Digest::of(&json);
        host.verify(digest, self.digest.or(announced), self.name)?;
        Ok(Fetched { json, digest })
    }
}

/// A blob on its way.
struct Transfer {
    digest: Digest,
    size: u64,
    sent: u64,
    sink: mpsc::Sender<Bytes>,
}

impl Transfer {
    /// Sends what is missing, from one host.
    async fn run(&mut self, host: &Host, patience: Patience) -> Result<(), RegistryError> {
        let mut failures = 0;
        loop {
            let before = self.sent;
            let ask = Ask {
                method: Method::GET,
                accept: "*/*",
                offset: self.sent,
            };
            let response = host.ask(&format!("blobs/{}", self.digest), ask).await?;
            let error = match self.receive(host, response).await {
                Err(e @ RegistryError::Connection { .. }) => e,
                outcome => return outcome,
            };
            failures = if self.sent > before { 1 } else { failures + 1 };
            if failures >= BLOB_ATTEMPTS {
                return Err(error);
            }
            tracing::debug!(blob = %self.digest, sent = self.sent, %error, "resuming a download");
            tokio::time::sleep(patience.backoff * 2u32.pow(failures - 1)).await;
        }
    }

    async fn receive(&mut self, host: &Host, mut response: Response) -> Result<(), RegistryError> {
        let mut skip = host.skip(&response, self.sent)?;
        while let Some(mut chunk) = host.chunk(&mut response).await? {
            let skipped = skip.min(chunk.len() as u64);
            // At most a chunk's length, which is a usize.
            drop(chunk.split_to(skipped as usize));
            skip -= skipped;
            self.sent += chunk.len() as u64;
            if !chunk.is_empty() && self.sink.send(chunk).await.is_err() {
                return Ok(());
            }
        }
        if self.sent < self.size {
            return Err(host.cut_short(self.sent, self.size));
        }
        Ok(())
    }
}

fn header_digest(headers: &HeaderMap) -> Option<Digest> {
    headers
        .get("docker-content-digest")?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Where a partial response begins.
fn range_start(response: &Response) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range
        .strip_prefix("bytes ")?
        .split_once('-')?
        .0
        .parse()
        .ok()
}
