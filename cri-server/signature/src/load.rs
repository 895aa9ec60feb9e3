//! From files to a policy: the text, the keys and certificates it names, and what can be wrong with them.

use std::io;
use std::path::{Path, PathBuf};

use sha2::Digest as _;
use skiff_reference::Digest;

use crate::certificate::{self, Root};
use crate::document::{self, Document, Requirements, Source};
use crate::key::PublicKey;
use crate::policy::Requirement;
use crate::sigstore::{Signer, Sigstore};
use crate::stamp::Stamp;

/// Longest file that is read: a policy, a key, certificates.
const MAX_FILE: u64 = 4 << 20;

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file could not be read.
    #[error("signature policy {}: read {}", policy.display(), path.display())]
    Read {
        /// The policy.
        policy: PathBuf,
        /// It, or a file that it names.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It is not JSON of this format.
    #[error("signature policy {}:{line}:{column}: {reason}", path.display())]
    Invalid {
        /// The policy.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A key or certificate that it names or contains cannot be used.
    #[error("signature policy {}: scope {scope:?}: {key} {reason}", policy.display())]
    Key {
        /// The policy.
        policy: PathBuf,
        /// The scope; empty for the default and for all of a transport.
        scope: String,
        /// File, or member that has the data.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A namespace that is no file's name.
    #[error("namespace {0:?} cannot be one of a signature policy")]
    Namespace(String),
}

/// Reads what a policy names, and notes what it read.
pub(crate) struct Reader {
    pub(crate) policy: PathBuf,
    /// As they looked before they were read: one that changes meanwhile is read again later.
    pub(crate) files: Vec<(PathBuf, Stamp)>,
    hash: sha2::Sha256,
}

impl Reader {
    pub(crate) fn new(policy: &Path) -> Self {
        Self {
            policy: policy.to_owned(),
            files: Vec::new(),
            hash: sha2::Sha256::new(),
        }
    }

    pub(crate) fn read(&mut self, path: &Path) -> Result<Vec<u8>, PolicyError> {
        let read = Stamp::of(path).and_then(|stamp| Ok((stamp, read(path)?)));
        let (stamp, content) = read.map_err(|source| PolicyError::Read {
            policy: self.policy.clone(),
            path: path.to_owned(),
            source,
        })?;
        self.files.push((path.to_owned(), stamp));
        self.note(&content);
        Ok(content)
    }

    /// Takes content into the id.
    pub(crate) fn note(&mut self, content: &[u8]) {
        self.hash.update((content.len() as u64).to_be_bytes());
        self.hash.update(content);
    }

    /// Digest of all that was read so far.
    pub(crate) fn id(&self) -> Digest {
        self.hash.clone().into()
    }

    /// The text of the policy.
    pub(crate) fn document(&self, json: &[u8]) -> Result<Document, PolicyError> {
        serde_json::from_slice(json).map_err(|e| {
            // The place is told apart from the reason.
            let reason = e.to_string();
            let place = format!(" at line {} column {}", e.line(), e.column());
            PolicyError::Invalid {
                path: self.policy.clone(),
                line: e.line(),
                column: e.column(),
                reason: reason.strip_suffix(&place).unwrap_or(&reason).to_owned(),
            }
        })
    }

    pub(crate) fn requirements(
        &mut self,
        scope: &str,
        requirements: Requirements,
    ) -> Result<Vec<Requirement>, PolicyError> {
        let all = requirements.0.into_iter();
        all.map(|one| match one {
            document::Requirement::InsecureAcceptAnything {} => Ok(Requirement::AcceptAnything),
            document::Requirement::Reject {} => Ok(Requirement::Reject),
            document::Requirement::SigstoreSigned(signed) => self
                .sigstore(scope, *signed)
                .map(|sigstore| Requirement::Sigstore(Box::new(sigstore))),
            document::Requirement::SignedBy(never) => match never {},
        })
        .collect()
    }

    fn sigstore(
        &mut self,
        scope: &str,
        signed: document::SigstoreSigned,
    ) -> Result<Sigstore, PolicyError> {
        let signer = match signed.signer {
            document::Signer::Keys(keys) => Signer::Keys(self.keys(scope, "key", &keys)?),
            document::Signer::Fulcio(fulcio) => {
                let roots: Vec<Root> =
                    self.source(scope, "caData", &fulcio.roots, certificate::roots)?;
                Signer::Fulcio(certificate::Fulcio {
                    roots,
                    oidc_issuer: fulcio.oidc_issuer,
                    subject_email: fulcio.subject_email,
                })
            }
        };
        Ok(Sigstore {
            signer,
            rekor: self.keys(scope, "rekorPublicKey", &signed.rekor)?,
            identity: signed.identity,
        })
    }

    fn keys(
        &mut self,
        scope: &str,
        name: &str,
        sources: &[Source],
    ) -> Result<Vec<PublicKey>, PolicyError> {
        let name = format!("{name}Data");
        let sources = sources.iter();
        sources
            .map(|source| self.source(scope, &name, source, PublicKey::from_pem))
            .collect()
    }

    /// What a source has, read by `parse`, whose error completes "it ...".
    fn source<T>(
        &mut self,
        scope: &str,
        name: &str,
        source: &Source,
        parse: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, PolicyError> {
        let (key, parsed) = match source {
            Source::File(path) => (path.display().to_string(), parse(&self.read(path)?)),
            Source::Data(data) => (name.to_owned(), parse(data)),
        };
        parsed.map_err(|reason| PolicyError::Key {
            policy: self.policy.clone(),
            scope: scope.to_owned(),
            key,
            reason,
        })
    }
}

/// A file of an administrator's: a device or a pipe in its place does not hold the daemon up.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other(format!(
            "{} bytes, the limit is {MAX_FILE}",
            metadata.len()
        )));
    }
    std::fs::read(path)
}
