//! The requirement `sigstoreSigned`: one signature that is right in everything.
//!
//! ```text
//! with keys      (promise of the log, if its key is given) ─> key ─┐
//! with Fulcio    promise of the log ─> time ─> certificate ─> key ─┴─> signature ─> payload
//! ```

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::UnixTime;
use skiff_reference::{Digest, Reference};

use crate::attached::{Evidence, Signature};
use crate::bundle::{Bundle, Logged};
use crate::certificate::{self, Fulcio};
use crate::identity::SignedIdentity;
use crate::key::PublicKey;
use crate::payload::Payload;

/// Whose signatures count.
#[derive(Debug)]
pub(crate) enum Signer {
    /// Any of these keys'.
    Keys(Vec<PublicKey>),
    /// That of the key in a certificate.
    Fulcio(Fulcio),
}

/// A requirement with its keys.
#[derive(Debug)]
pub(crate) struct Sigstore {
    pub(crate) signer: Signer,
    /// Keys of the transparency log; none: it is not asked for.
    pub(crate) rekor: Vec<PublicKey>,
    pub(crate) identity: SignedIdentity,
}

/// What is wrong with a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is not base64.
    #[error("it is not base64")]
    Encoding,
    /// It lacks what the policy wants to see.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// None of the policy's keys made it.
    #[error("it was made with none of the policy's keys")]
    Key,
    /// The certificate's key did not make it.
    #[error("it was not made with its certificate's key")]
    CertificateKey,
    /// The certificate does not count.
    #[error("its certificate {0}")]
    Certificate(String),
    /// Somebody else signed.
    #[error("Required email {required} not found (got {found:?})")]
    Email {
        /// Who should have.
        required: String,
        /// Whom the certificate is for.
        found: Vec<String>,
    },
    /// The log's promise does not count.
    #[error("its transparency log entry: {0}")]
    Log(String),
    /// What was signed cannot be read.
    #[error("its payload: {0}")]
    Payload(String),
    /// Something else was signed.
    #[error("it is for {signed}, the image is {image}")]
    Digest {
        /// What was signed.
        signed: Digest,
        /// What was pulled.
        image: Digest,
    },
    /// It was signed under another name.
    #[error("it is for the name {signed:?}, which signedIdentity does not accept for {image}")]
    Identity {
        /// The name that was signed.
        signed: String,
        /// The name of the image.
        image: String,
    },
}

impl Sigstore {
    /// Whether one of the signatures is right for an image; if not, what is wrong with each. All
    /// of them are said to be the image's.
    pub(crate) fn check(&self, image: &Reference, evidence: &[&Evidence]) -> Result<(), Vec<Flaw>> {
        let mut flaws = Vec::new();
        for found in evidence {
            for signature in &found.signatures {
                match self.check_one(image, found.digest, signature) {
                    Ok(()) => return Ok(()),
                    Err(flaw) => flaws.push(flaw),
                }
            }
        }
        Err(flaws)
    }

    fn check_one(
        &self,
        image: &Reference,
        digest: Digest,
        signature: &Signature,
    ) -> Result<(), Flaw> {
        let bytes = BASE64_STANDARD
            .decode(&signature.signature)
            .map_err(|_| Flaw::Encoding)?;
        let payload = signature.payload.as_bytes();
        match &self.signer {
            Signer::Keys(keys) => {
                let verifies = |key: &&PublicKey| key.verifies(payload, &bytes);
                let key = keys.iter().find(verifies).ok_or(Flaw::Key)?;
                if !self.rekor.is_empty() {
                    self.logged(signature, &bytes, key.spki())?;
                }
            }
            Signer::Fulcio(fulcio) => {
                let missing = Flaw::Missing("certificate");
                let pem = signature.certificate.as_deref().ok_or(missing)?;
                let leaf = certificate::leaf(pem).map_err(Flaw::Certificate)?;
                let at = self.logged(signature, &bytes, &leaf)?;
                let key = fulcio.verify(&leaf, signature.chain.as_deref(), at)?;
                if !key.verifies(payload, &bytes) {
                    return Err(Flaw::CertificateKey);
                }
            }
        }
        self.check_payload(image, digest, payload)
    }

    /// When the log took the signature in.
    fn logged(&self, signature: &Signature, bytes: &[u8], signer: &[u8]) -> Result<UnixTime, Flaw> {
        let missing = Flaw::Missing("promise of a transparency log");
        let bundle = signature.bundle.as_deref().ok_or(missing)?;
        let bundle = Bundle::parse(bundle.as_bytes()).map_err(Flaw::Log)?;
        let logged = Logged {
            payload: signature.payload.as_bytes(),
            signature: bytes,
            signer,
        };
        bundle.verify(&self.rekor, &logged).map_err(Flaw::Log)
    }

    /// The signature is the signer's; whether it is about this image.
    fn check_payload(&self, image: &Reference, digest: Digest, payload: &[u8]) -> Result<(), Flaw> {
        let Payload {
            reference: signed_name,
            digest: signed,
        } = Payload::parse(payload).map_err(Flaw::Payload)?;
        if signed != digest {
            return Err(Flaw::Digest {
                signed,
                image: digest,
            });
        }
        if !self.identity.accepts(image, &signed_name) {
            return Err(Flaw::Identity {
                signed: signed_name,
                image: image.to_string(),
            });
        }
        Ok(())
    }
}
