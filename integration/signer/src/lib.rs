//! Signs images as cosign does, with keys and certificates made on the spot: what tests of
//! signature policies put into a registry.
//!
//! Panics where a test cannot go on.

#![forbid(unsafe_code)]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, SanType, SignatureAlgorithm, SigningKey, date_time_ymd,
};
use serde_json::{Value, json};
use sha2::Digest;

/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Fulcio's extension that names the identity provider.
const ISSUER: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 1];

/// `sha256:` and the hexadecimal digest of some content.
pub fn digest(content: &[u8]) -> String {
    let hash = sha2::Sha256::digest(content);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Base64, as policies and log entries have it.
pub fn base64(content: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(content)
}

/// A key pair.
#[derive(Debug)]
pub struct Key(KeyPair);

impl Key {
    /// One on the curve P-256, as cosign makes them.
    pub fn new() -> Self {
        Self::of(&rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// One of another algorithm.
    pub fn of(algorithm: &'static SignatureAlgorithm) -> Self {
        Self(KeyPair::generate_for(algorithm).expect("make a key"))
    }

    /// The public key.
    pub fn pem(&self) -> String {
        self.0.public_key_pem()
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).expect("sign")
    }

    /// Signs a digest under a name.
    pub fn sign_image(&self, name: &str, digest: &str) -> Signed {
        let payload = payload(name, digest);
        let signature = self.sign(payload.as_bytes());
        Signed {
            payload,
            signature,
            certificate: None,
            chain: None,
            bundle: None,
        }
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}

/// What cosign signs.
pub fn payload(name: &str, digest: &str) -> String {
    json!({
        "critical": {
            "identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string()
}

/// A signature with what belongs to it.
#[derive(Debug, Clone)]
pub struct Signed {
    /// What was signed.
    pub payload: String,
    /// The signature.
    pub signature: Vec<u8>,
    /// The signer's certificate.
    pub certificate: Option<String>,
    /// Certificates up to the root.
    pub chain: Option<String>,
    /// The transparency log's promise.
    pub bundle: Option<String>,
}

impl Signed {
    /// The layer that it is.
    fn layer(&self) -> Value {
        let optional = [
            ("dev.sigstore.cosign/certificate", &self.certificate),
            ("dev.sigstore.cosign/chain", &self.chain),
            ("dev.sigstore.cosign/bundle", &self.bundle),
        ];
        let mut annotations =
            json!({"dev.cosignproject.cosign/signature": base64(&self.signature)});
        for (name, value) in optional {
            if let Some(value) = value {
                annotations[name] = json!(value);
            }
        }
        json!({
            "mediaType": PAYLOAD,
            "digest": digest(self.payload.as_bytes()),
            "size": self.payload.len(),
            "annotations": annotations,
        })
    }
}

/// A transparency log.
#[derive(Debug, Default)]
pub struct Log(pub Key);

impl Log {
    /// Takes a signature in at a time in seconds. `signer` is the PEM of the key or certificate.
    pub fn enter(&self, signed: &mut Signed, signer: &str, time: i64) {
        let hash = digest(signed.payload.as_bytes());
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": hash.trim_start_matches("sha256:")}},
                "signature": {
                    "content": base64(&signed.signature),
                    "publicKey": {"content": base64(signer)},
                },
            },
        });
        let body = base64(body.to_string());
        let log_id = "c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d";
        // The canonical form, written out, so that it does not depend on what it tests.
        let entry = format!(
            r#"{{"body":"{body}","integratedTime":{time},"logID":"{log_id}","logIndex":7}}"#
        );
        let timestamp = base64(self.0.sign(entry.as_bytes()));
        signed.bundle = Some(
            json!({
                "SignedEntryTimestamp": timestamp,
                "Payload": {"logIndex": 7, "body": body, "logID": log_id, "integratedTime": time},
            })
            .to_string(),
        );
    }
}

/// Who gives out certificates: a root and an authority below it.
#[derive(Debug)]
pub struct Authority {
    root: Certificate,
    middle: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// What is to be in a certificate.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Email address.
    pub email: String,
    /// Identity provider; none: the certificate names none.
    pub issuer: Option<String>,
    /// The year that it is for.
    pub year: i32,
    /// What it is for, code signing unless a test is about that.
    pub usage: Vec<ExtendedKeyUsagePurpose>,
}

impl Subject {
    /// One as Fulcio gives them, for the year 2024.
    pub fn new(email: &str, issuer: &str) -> Self {
        Self {
            email: email.into(),
            issuer: Some(issuer.into()),
            year: 2024,
            usage: vec![ExtendedKeyUsagePurpose::CodeSigning],
        }
    }
}

fn ca(name: &str, from: i32, until: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    params
}

impl Authority {
    /// One that lasts from 2020 to 2040.
    pub fn new() -> Self {
        Self::lasting(2020, 2040)
    }

    /// One whose root lasts from one year to the other.
    pub fn lasting(from: i32, until: i32) -> Self {
        let (root_key, key) = (Key::new().0, Key::new().0);
        let root_params = ca("root", from, until);
        let root = root_params.self_signed(&root_key).expect("make a root");
        let params = ca("authority", 2020, 2040);
        let middle = params
            .signed_by(&key, &Issuer::new(root_params, root_key))
            .expect("make an authority");
        Self {
            root,
            middle,
            issuer: Issuer::new(params, key),
        }
    }

    /// The root, for a policy.
    pub fn root(&self) -> String {
        self.root.pem()
    }

    /// The authority and the root, as cosign attaches them.
    pub fn chain(&self) -> String {
        self.middle.pem() + &self.root.pem()
    }

    /// A certificate of a key.
    pub fn certify(&self, key: &Key, subject: &Subject) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let email = subject.email.as_str().try_into().expect("an address");
        params.subject_alt_names = vec![SanType::Rfc822Name(email)];
        params.extended_key_usages.clone_from(&subject.usage);
        params.not_before = date_time_ymd(subject.year, 1, 1);
        params.not_after = date_time_ymd(subject.year + 1, 1, 1);
        if let Some(issuer) = &subject.issuer {
            let extension = CustomExtension::from_oid_content(&ISSUER, issuer.clone().into_bytes());
            params.custom_extensions = vec![extension];
        }
        let certificate = params.signed_by(&key.0, &self.issuer);
        certificate.expect("make a certificate").pem()
    }

    /// Signs a digest under a name with a key of its own, and has the log take it in.
    pub fn sign_image(
        &self,
        log: &Log,
        subject: &Subject,
        time: i64,
        name: &str,
        digest: &str,
    ) -> Signed {
        let key = Key::new();
        let mut signed = key.sign_image(name, digest);
        let certificate = self.certify(&key, subject);
        log.enter(&mut signed, &certificate, time);
        signed.certificate = Some(certificate);
        signed.chain = Some(self.chain());
        signed
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// What a registry has to serve for signatures to be found.
#[derive(Debug)]
pub struct Attachment {
    /// The tag.
    pub tag: String,
    /// The manifest under it.
    pub manifest: String,
    /// The blobs that it names.
    pub blobs: Vec<Vec<u8>>,
}

/// The signatures of a digest, ready to be pushed.
pub fn attach(digest: &str, signatures: &[Signed]) -> Attachment {
    let layers: Vec<Value> = signatures.iter().map(Signed::layer).collect();
    let config = json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}});
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": self::digest(&config), "size": config.len()},
        "layers": layers,
    });
    let payloads = signatures
        .iter()
        .map(|signed| signed.payload.clone().into_bytes());
    Attachment {
        tag: format!("{}.sig", digest.replace(':', "-")),
        manifest: manifest.to_string(),
        blobs: payloads.chain([config]).collect(),
    }
}
