//! Public keys: ECDSA on P-256 and P-384, RSA (PKCS #1 v1.5) from 2048 bits, each with SHA-256, and
//! Ed25519, from PEM files as cosign writes them.

use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::{RawPublicKeyEntity, ring};
use x509_cert::der::{Decode, Encode};
use x509_cert::spki::SubjectPublicKeyInfoRef;

/// What a signature can be verified with. cosign signs with SHA-256, whatever the curve.
const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 4] = [
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P384_SHA256,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
];

/// A public key.
#[derive(Debug, Clone)]
pub(crate) struct PublicKey {
    spki: Vec<u8>,
    algorithm: &'static dyn SignatureVerificationAlgorithm,
}

impl PublicKey {
    /// The one key in a PEM file; the error completes "it ...".
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let keys = blocks(pem, SectionKind::PublicKey)?;
        match <[Vec<u8>; 1]>::try_from(keys) {
            Ok([spki]) => Self::from_spki(spki),
            Err(keys) => Err(format!(
                "has {} PEM blocks PUBLIC KEY, expected one",
                keys.len()
            )),
        }
    }

    /// A key as a SubjectPublicKeyInfo in DER; the error completes "it ...".
    pub(crate) fn from_spki(spki: Vec<u8>) -> Result<Self, String> {
        let malformed = |e: String| format!("is no public key: {e}");
        let parsed =
            SubjectPublicKeyInfoRef::from_der(&spki).map_err(|e| malformed(e.to_string()))?;
        let identifier = parsed
            .algorithm
            .to_der()
            .map_err(|e| malformed(e.to_string()))?;
        // The library's identifiers are without the tag and length of the sequence.
        let known = |algorithm: &&&'static dyn SignatureVerificationAlgorithm| {
            identifier.get(2..) == Some(algorithm.public_key_alg_id().as_ref())
        };
        let algorithm = *ALGORITHMS.iter().find(known).ok_or_else(|| {
            format!(
                "is a key of algorithm {}; ECDSA on P-256 and P-384, Ed25519 and RSA are supported",
                parsed.algorithm.oid
            )
        })?;
        Ok(Self { spki, algorithm })
    }

    /// The key as a SubjectPublicKeyInfo in DER.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Whether `signature` is this key's of `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let spki = SubjectPublicKeyInfoDer::from(self.spki.as_slice());
        let entity = RawPublicKeyEntity::try_from(&spki);
        entity.is_ok_and(|entity| {
            entity
                .verify_signature(self.algorithm, message, signature)
                .is_ok()
        })
    }
}

/// The content of all PEM blocks of a kind; the error completes "it ...".
pub(crate) fn blocks(pem: &[u8], kind: SectionKind) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    for block in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        match block {
            Ok((of, der)) if of == kind => found.push(der),
            Ok(_) => {}
            Err(e) => return Err(format!("is not PEM: {e}")),
        }
    }
    Ok(found)
}
