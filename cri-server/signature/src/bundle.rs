//! A transparency log's promise that it has a signature: Rekor's signed entry timestamp, verified
//! with the log's key alone, without asking the log.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::SectionKind;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::key::{PublicKey, blocks};

/// Beyond this a number is not the same in every JSON reader, nor in the canonical form.
const MAX_INTEGER: i64 = 1 << 53;

/// A promise as it came with a signature.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Bundle {
    signed_entry_timestamp: String,
    payload: Entry,
}

/// What is promised. Its members stand in the order of the canonical form (RFC 8785), which is
/// what is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated_time: i64,
    #[serde(rename = "logID")]
    log_id: String,
    #[serde(rename = "logIndex")]
    log_index: i64,
}

/// An entry's body: the only kind that cosign writes for images.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HashedRekord {
    api_version: String,
    kind: String,
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    data: Data,
    signature: LoggedSignature,
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedSignature {
    content: String,
    public_key: LoggedKey,
}

#[derive(Deserialize)]
struct LoggedKey {
    content: String,
}

/// What the log must have been shown.
pub(crate) struct Logged<'a> {
    /// The payload that was signed.
    pub(crate) payload: &'a [u8],
    /// Its signature.
    pub(crate) signature: &'a [u8],
    /// DER of the signer's certificate or, without one, key.
    pub(crate) signer: &'a [u8],
}

impl Bundle {
    /// Reads a promise.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let bundle: Self = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        let Entry {
            integrated_time,
            log_index,
            ..
        } = bundle.payload;
        if [integrated_time, log_index]
            .iter()
            .any(|number| !(0..=MAX_INTEGER).contains(number))
        {
            return Err("a number is out of range".into());
        }
        Ok(bundle)
    }

    /// Verifies that one of `keys` signed the promise and that it is about `logged`. Returns when
    /// the log took the entry in.
    pub(crate) fn verify(
        &self,
        keys: &[PublicKey],
        logged: &Logged<'_>,
    ) -> Result<UnixTime, String> {
        let timestamp = decode("SignedEntryTimestamp", &self.signed_entry_timestamp)?;
        let canonical = serde_json::to_vec(&self.payload).map_err(|e| e.to_string())?;
        if !keys.iter().any(|key| key.verifies(&canonical, &timestamp)) {
            return Err("it is signed by none of the keys of the log".into());
        }
        let body = decode("body", &self.payload.body)?;
        let entry: HashedRekord =
            serde_json::from_slice(&body).map_err(|e| format!("its entry: {e}"))?;
        entry.is_about(logged)?;
        // Not negative, see `parse`.
        let time = Duration::from_secs(self.payload.integrated_time.unsigned_abs());
        Ok(UnixTime::since_unix_epoch(time))
    }
}

impl HashedRekord {
    fn is_about(&self, logged: &Logged<'_>) -> Result<(), String> {
        if (self.kind.as_str(), self.api_version.as_str()) != ("hashedrekord", "0.0.1") {
            return Err(format!(
                "its entry is a {} {}, expected hashedrekord 0.0.1",
                self.kind, self.api_version
            ));
        }
        let Spec { data, signature } = &self.spec;
        let hash = sha2::Sha256::digest(logged.payload);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        if data.hash.algorithm != "sha256" || data.hash.value != hex {
            return Err("its entry is about another payload".into());
        }
        if decode("signature", &signature.content)? != logged.signature {
            return Err("its entry is about another signature".into());
        }
        let pem = decode("public key", &signature.public_key.content)?;
        let certificates = blocks(&pem, SectionKind::Certificate)?;
        let keys = blocks(&pem, SectionKind::PublicKey)?;
        match certificates
            .iter()
            .chain(&keys)
            .collect::<Vec<_>>()
            .as_slice()
        {
            [signer] if *signer == logged.signer => Ok(()),
            _ => Err("its entry is about another signer".into()),
        }
    }
}

fn decode(what: &str, text: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD
        .decode(text)
        .map_err(|e| format!("its {what}: {e}"))
}
