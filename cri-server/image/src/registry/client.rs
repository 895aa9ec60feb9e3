//! The HTTP client of a host: whom it trusts and what it presents.

use std::path::Path;

use reqwest::{Certificate, Client, Identity, redirect};

use super::error::RegistryError;
use super::host::Host;

impl Host {
    /// The HTTP client of this host, made when it is first needed: its certificates are read
    /// then.
    pub(super) fn client(&self) -> Result<&Client, RegistryError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.build_client()?;
        Ok(self.client.get_or_init(|| client))
    }

    fn build_client(&self) -> Result<Client, RegistryError> {
        // Fails when there is one already, which is then ours or as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("skiff/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.config.dial_timeout)
            .redirect(redirect::Policy::none())
            .tls_danger_accept_invalid_certs(self.config.skip_verify);
        let read =
            |path: &Path| std::fs::read(path).map_err(|e| self.certificate(path, &e.to_string()));
        for path in &self.config.ca {
            let certificates = Certificate::from_pem_bundle(&read(path)?)
                .map_err(|e| self.certificate(path, &whole(&e)))?;
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(first) = self.config.client.first() {
            let mut pem = Vec::new();
            for path in &self.config.client {
                pem.extend(read(path)?);
            }
            let identity =
                Identity::from_pem(&pem).map_err(|e| self.certificate(first, &whole(&e)))?;
            builder = builder.identity(identity);
        }
        builder
            .build()
            .map_err(|e| self.protocol(format!("HTTP client: {}", whole(&e))))
    }

    fn certificate(&self, path: &Path, reason: &str) -> RegistryError {
        RegistryError::Certificate {
            host: self.name(),
            path: path.display().to_string(),
            reason: reason.to_owned(),
        }
    }
}

/// An error with its causes; reqwest's own message names the URL, whose query may be a secret.
pub(super) fn whole(error: &reqwest::Error) -> String {
    let mut text = match std::error::Error::source(error) {
        None => {
            return error
                .to_string()
                .split(" for url")
                .next()
                .unwrap_or_default()
                .to_owned();
        }
        Some(source) => source.to_string(),
    };
    let mut next = std::error::Error::source(error).and_then(std::error::Error::source);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
