//! HTTPS: certificates of the server and of its clients, and their renewal.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use skiff_streaming::{Exit, Server, ServerError, Settings, Timeouts, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{ALL, job};

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, both PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn sign(&self) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".into()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A directory with the files of a server.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new(pair: &Pair) -> Self {
        let files = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        files.put("cert.pem", &pair.certificate);
        files.put("key.pem", &pair.key);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces a file as those do it who renew certificates.
    fn put(&self, name: &str, text: &str) {
        let aside = self.path("aside");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, self.path(name)).unwrap();
    }

    fn start(&self, client_ca: Option<PathBuf>) -> Result<Server, ServerError> {
        Server::start(&Settings {
            address: "127.0.0.1:0".parse().unwrap(),
            tls: Some(Tls {
                certificate: self.path("cert.pem"),
                key: self.path("key.pem"),
                client_ca,
            }),
            timeouts: Timeouts::default(),
        })
    }
}

/// Comes to a new URL of the server; the answer's status, and the server's certificate.
async fn come(
    server: &Server,
    trusts: &Authority,
    own: Option<&Pair>,
) -> std::io::Result<(String, CertificateDer<'static>)> {
    let url = server.url(job(ALL, |_| async { Exit::Ended })).unwrap();
    let (address, token) = url
        .strip_prefix("https://")
        .and_then(|rest| rest.split_once('/'))
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(trusts.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some(pair) => {
            let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            config
                .with_client_auth_cert(vec![certificate], key)
                .unwrap()
        }
    };
    let address: SocketAddr = address.parse().unwrap();
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::IpAddress(address.ip().into());
    let mut socket = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await?;
    let request = format!(
        "POST /{token} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut status = [0; 12];
    socket.read_exact(&mut status).await?;
    let certificate = socket.get_ref().1.peer_certificates().unwrap()[0].clone();
    let status = String::from_utf8_lossy(&status).into_owned();
    Ok((status, certificate.into_owned()))
}

const UPGRADED: &str = "HTTP/1.1 101";

#[tokio::test]
async fn a_client_that_trusts_the_certificate_is_served() {
    let authority = Authority::new();
    let server = Files::new(&authority.sign()).start(None).unwrap();
    let (status, _) = come(&server, &authority, None).await.unwrap();
    assert_eq!(status, UPGRADED);
    let other = Authority::new();
    assert!(come(&server, &other, None).await.is_err());
}

#[tokio::test]
async fn a_client_needs_a_certificate_when_an_authority_is_set() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let files = Files::new(&authority.sign());
    files.put("clients.pem", &clients.0.pem());
    let server = files.start(Some(files.path("clients.pem"))).unwrap();
    let own = clients.sign();
    let (status, _) = come(&server, &authority, Some(&own)).await.unwrap();
    assert_eq!(status, UPGRADED);
    assert!(come(&server, &authority, None).await.is_err());
    let foreign = Authority::new().sign();
    assert!(come(&server, &authority, Some(&foreign)).await.is_err());
    // Another authority: those of the first are not clients any more.
    let others = Authority::new();
    files.put("clients.pem", &others.0.pem());
    assert!(come(&server, &authority, Some(&own)).await.is_err());
    let own = others.sign();
    come(&server, &authority, Some(&own)).await.unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_used_once_its_key_is_there() {
    let authority = Authority::new();
    let (old, new) = (authority.sign(), authority.sign());
    let files = Files::new(&old);
    let server = files.start(None).unwrap();
    let shown = |pair: &Pair| CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let (_, first) = come(&server, &authority, None).await.unwrap();
    assert_eq!(first, shown(&old));
    files.put("cert.pem", &new.certificate);
    let (_, between) = come(&server, &authority, None).await.unwrap();
    assert_eq!(between, shown(&old), "of the new one there is no key");
    files.put("key.pem", &new.key);
    let (_, second) = come(&server, &authority, None).await.unwrap();
    assert_eq!(second, shown(&new));
    std::fs::remove_file(files.path("cert.pem")).unwrap();
    let (_, without) = come(&server, &authority, None).await.unwrap();
    assert_eq!(without, shown(&new));
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_at_the_start() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut mixed = authority.sign();
    mixed.key = other.sign().key;
    let none = Pair {
        certificate: "nothing".into(),
        key: authority.sign().key,
    };
    for (pair, client_ca, file) in [
        (&none, None, "cert.pem"),
        (&mixed, None, "cert.pem"),
        (&authority.sign(), Some("key.pem"), "key.pem"),
        (&authority.sign(), Some("missing.pem"), "missing.pem"),
    ] {
        let files = Files::new(pair);
        let error = files.start(client_ca.map(|name| files.path(name)));
        let error = error.unwrap_err();
        assert!(matches!(error, ServerError::Certificate(_)), "{error}");
        let path: &Path = &files.path(file);
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}
