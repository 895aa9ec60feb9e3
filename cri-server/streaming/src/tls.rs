//! The server's certificate, and the authority that its clients' are to be from.
//!
//! The files are looked at for each connection: renewed ones are taken up without a restart. As
//! long as they cannot be used, such as between a new certificate and its key, those before hold.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// Files for TLS, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
    /// Authorities: a client without a certificate from one of them is refused. `None`: any
    /// client is served that knows a URL.
    pub client_ca: Option<PathBuf>,
}

/// What the files say, as long as they are as they were when they were read.
pub(crate) struct Renewed {
    files: Tls,
    current: ArcSwap<(Stamp, TlsAcceptor)>,
}

/// Tells a file from the one it was replaced by or changed to: device, inode, size, and the time
/// of its change in seconds and nanoseconds. `None`: not there.
type Stamp = Vec<Option<(u64, u64, u64, i64, i64)>>;

impl Renewed {
    /// Reads the files. The error is the whole story.
    pub(crate) fn read(files: Tls) -> Result<Self, String> {
        let stamp = stamp(&files);
        let acceptor = acceptor(&files)?;
        Ok(Self {
            files,
            current: ArcSwap::from_pointee((stamp, acceptor)),
        })
    }

    /// What accepts the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.load();
        let now = stamp(&self.files);
        if current.0 == now {
            return current.1.clone();
        }
        let acceptor = match acceptor(&self.files) {
            Ok(acceptor) => {
                tracing::info!(
                    certificate = %self.files.certificate.display(),
                    "the renewed streaming certificate is used from now on"
                );
                acceptor
            }
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "the streaming certificate stays as it was: the changed files cannot be used"
                );
                current.1.clone()
            }
        };
        self.current.store(Arc::new((now, acceptor.clone())));
        acceptor
    }
}

fn stamp(files: &Tls) -> Stamp {
    let paths = [&files.certificate, &files.key];
    let paths = paths.into_iter().chain(&files.client_ca);
    paths
        .map(|path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((
                meta.dev(),
                meta.ino(),
                meta.size(),
                meta.ctime(),
                meta.ctime_nsec(),
            ))
        })
        .collect()
}

fn acceptor(files: &Tls) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(of(&files.key))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(of(path))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(of(path))?)
        }
    };
    let config = builder
        .with_single_cert(chain, key)
        .map_err(of(&files.certificate))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The certificates of a file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, pem::Error> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match certificates {
        Ok(none) if none.is_empty() => Err(of(path)("there is no certificate in it")),
        certificates => certificates.map_err(of(path)),
    }
}

fn of<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> String {
    move |error| format!("{}: {error}", path.display())
}
