//! Certificates of keyless signatures: Fulcio's, short-lived, for whoever an identity provider knew.

use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::asn1::Utf8StringRef;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5280::ID_KP_CODE_SIGNING;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};

use crate::key::{PublicKey, blocks};
use crate::sigstore::Flaw;

/// id-kp-codeSigning, 1.3.6.1.5.5.7.3.3.
const CODE_SIGNING: KeyUsage =
    KeyUsage::required_if_present(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03]);
/// Issuer of the identity, as mere bytes and as a string in DER (Fulcio, docs/oid-info.md).
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
const ISSUER_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
/// Most certificates between a signer's and a root.
const MAX_CHAIN: usize = 8;

/// A root and when it counts.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    anchor: TrustAnchor<'static>,
    from: UnixTime,
    until: UnixTime,
}

/// Whose certificates are accepted, for whom.
#[derive(Debug, Clone)]
pub(crate) struct Fulcio {
    pub(crate) roots: Vec<Root>,
    /// Identity provider.
    pub(crate) oidc_issuer: String,
    /// Email address in the certificate.
    pub(crate) subject_email: String,
}

/// The roots in a PEM file; the error completes "it ...".
pub(crate) fn roots(pem: &[u8]) -> Result<Vec<Root>, String> {
    let roots: Vec<Root> = blocks(pem, SectionKind::Certificate)?
        .into_iter()
        .map(root)
        .collect::<Result<_, _>>()?;
    if roots.is_empty() {
        return Err("has no PEM block CERTIFICATE".into());
    }
    Ok(roots)
}

fn root(der: Vec<u8>) -> Result<Root, String> {
    let bad = |e: String| format!("is no certificate: {e}");
    let certificate = Certificate::from_der(&der).map_err(|e| bad(e.to_string()))?;
    let der = CertificateDer::from(der);
    let anchor = anchor_from_trusted_cert(&der).map_err(|e| bad(e.to_string()))?;
    let validity = certificate.tbs_certificate().validity();
    Ok(Root {
        anchor: anchor.to_owned(),
        from: UnixTime::since_unix_epoch(validity.not_before.to_unix_duration()),
        until: UnixTime::since_unix_epoch(validity.not_after.to_unix_duration()),
    })
}

/// DER of the one certificate in PEM; the error completes "the certificate ...".
pub(crate) fn leaf(pem: &str) -> Result<Vec<u8>, String> {
    let all = blocks(pem.as_bytes(), SectionKind::Certificate)?;
    <[Vec<u8>; 1]>::try_from(all)
        .map(|[der]| der)
        .map_err(|all| format!("is {} certificates, expected one", all.len()))
}

impl Fulcio {
    /// Verifies a certificate as it was at a time, and returns its key.
    pub(crate) fn verify(
        &self,
        leaf: &[u8],
        chain: Option<&str>,
        at: UnixTime,
    ) -> Result<PublicKey, Flaw> {
        let (emails, key) = self.identity(leaf, chain, at).map_err(Flaw::Certificate)?;
        if !emails.contains(&self.subject_email) {
            return Err(Flaw::Email {
                required: self.subject_email.clone(),
                found: emails,
            });
        }
        Ok(key)
    }

    /// The email addresses of a certificate of our issuer, and its key. The error completes "the
    /// certificate ...".
    fn identity(
        &self,
        leaf: &[u8],
        chain: Option<&str>,
        at: UnixTime,
    ) -> Result<(Vec<String>, PublicKey), String> {
        let chain = blocks(
            chain.unwrap_or_default().as_bytes(),
            SectionKind::Certificate,
        )?;
        if chain.len() > MAX_CHAIN {
            return Err(format!("has a chain of {} certificates", chain.len()));
        }
        self.verify_chain(leaf, chain, at)?;
        let certificate =
            Certificate::from_der(leaf).map_err(|e| format!("cannot be read: {e}"))?;
        require_code_signing(&certificate)?;
        let issuer = issuer(&certificate)?;
        if issuer != self.oidc_issuer {
            return Err(format!(
                "is for an identity of {issuer}, expected {}",
                self.oidc_issuer
            ));
        }
        let spki = certificate
            .tbs_certificate()
            .subject_public_key_info()
            .to_der()
            .map_err(|e| format!("cannot be read: {e}"))?;
        Ok((emails(&certificate)?, PublicKey::from_spki(spki)?))
    }

    fn verify_chain(&self, leaf: &[u8], chain: Vec<Vec<u8>>, at: UnixTime) -> Result<(), String> {
        let roots: Vec<TrustAnchor<'_>> = self
            .roots
            .iter()
            .filter(|root| root.from <= at && at <= root.until)
            .map(|root| root.anchor.clone())
            .collect();
        let leaf = CertificateDer::from(leaf);
        let chain: Vec<CertificateDer<'_>> = chain.into_iter().map(CertificateDer::from).collect();
        let end = EndEntityCert::try_from(&leaf).map_err(|e| format!("cannot be read: {e}"))?;
        end.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &roots,
            &chain,
            at,
            CODE_SIGNING,
            None,
            None,
        )
        .map(drop)
        .map_err(|e| {
            format!(
                "does not lead to a root of the policy at {} (unix time): {e}",
                at.as_secs()
            )
        })
    }
}

/// The chain's check lets a certificate pass that is for no purpose in particular.
fn require_code_signing(certificate: &Certificate) -> Result<(), String> {
    let usage = certificate
        .tbs_certificate()
        .get_extension::<ExtendedKeyUsage>()
        .map_err(|e| format!("cannot be read: {e}"))?;
    match usage {
        Some((_, usage)) if usage.0.contains(&ID_KP_CODE_SIGNING) => Ok(()),
        _ => Err("is not for signing code".into()),
    }
}

fn emails(certificate: &Certificate) -> Result<Vec<String>, String> {
    let names = certificate
        .tbs_certificate()
        .get_extension::<SubjectAltName>()
        .map_err(|e| format!("cannot be read: {e}"))?;
    let names = names.map(|(_, names)| names.0).unwrap_or_default();
    let emails = names.iter().filter_map(|name| match name {
        GeneralName::Rfc822Name(email) => Some(email.to_string()),
        _ => None,
    });
    Ok(emails.collect())
}

/// The issuer in either form; both must agree where both are there.
fn issuer(certificate: &Certificate) -> Result<String, String> {
    let mut found: Option<String> = None;
    let extensions = certificate.tbs_certificate().extensions();
    for extension in extensions.into_iter().flatten() {
        let value = extension.extn_value.as_bytes();
        let issuer = if extension.extn_id == ISSUER {
            String::from_utf8(value.to_vec()).map_err(|_| "names its issuer not in UTF-8")?
        } else if extension.extn_id == ISSUER_V2 {
            Utf8StringRef::from_der(value)
                .map_err(|e| format!("names its issuer wrongly: {e}"))?
                .to_string()
        } else {
            continue;
        };
        if found.as_ref().is_some_and(|found| *found != issuer) {
            return Err("names two issuers".into());
        }
        found = Some(issuer);
    }
    found.ok_or_else(|| "names no issuer of an identity".into())
}
