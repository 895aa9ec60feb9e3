//! The server's certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Reads a certificate chain and its key, both PEM.
pub(crate) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, String> {
    let of = |path: &Path| {
        let path = path.display().to_string();
        move |e: String| format!("{path}: {e}")
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|e: rustls::pki_types::pem::Error| of(certificate)(e.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| of(key)(e.to_string()))?;
    // Fails when there is one already, which is then ours or as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| of(certificate)(e.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
