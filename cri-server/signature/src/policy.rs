//! A policy ready for use: what was read, with all its keys, and its verdict on an image.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::Digest as _;
use skiff_reference::{Digest, Reference};

use crate::attached::Evidence;
use crate::certificate::{self, Root};
use crate::document::{self, Document, Requirements, Source};
use crate::key::PublicKey;
use crate::scope::scopes;
use crate::sigstore::{Flaw, Signer, Sigstore};
use crate::stamp::Stamp;

/// Longest file that is read: a policy, a key, certificates.
const MAX_FILE: u64 = 4 << 20;
/// Verdicts that are remembered.
const MAX_VERDICTS: usize = 4096;

/// A policy that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PolicyError {
    /// A file could not be read.
    #[error("signature policy {}: read {}: {reason}", policy.display(), path.display())]
    Read {
        /// The policy.
        policy: PathBuf,
        /// It, or a file that it names.
        path: PathBuf,
        /// The system's answer.
        reason: String,
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

/// Why an image is refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Rejection {
    /// Nobody may have it.
    #[error("signature policy {}, scope {scope:?}, rejects it", policy.display())]
    Rejected {
        /// The policy.
        policy: PathBuf,
        /// The scope; empty for the default and for all of a transport.
        scope: String,
    },
    /// Nobody has signed it.
    #[error("signature policy {}, scope {scope:?}, requires a signature, and there is none of {repository}@{digest}", policy.display())]
    Unsigned {
        /// The policy.
        policy: PathBuf,
        /// The scope.
        scope: String,
        /// Where signatures were looked for.
        repository: String,
        /// What of.
        digest: String,
    },
    /// Somebody else has, or something else.
    #[error("signature policy {}, scope {scope:?}: {}", policy.display(), reasons(flaws))]
    Unacceptable {
        /// The policy.
        policy: PathBuf,
        /// The scope.
        scope: String,
        /// What is wrong with each signature.
        flaws: Vec<Flaw>,
    },
}

fn reasons(flaws: &[Flaw]) -> String {
    let all: Vec<String> = flaws.iter().map(ToString::to_string).collect();
    match all.as_slice() {
        [one] => format!("its signature is not accepted: {one}"),
        all => format!(
            "none of its {} signatures is accepted: {}",
            all.len(),
            all.join("; ")
        ),
    }
}

/// One requirement with what it needs to be checked.
#[derive(Debug)]
enum Requirement {
    AcceptAnything,
    Reject,
    Sigstore(Box<Sigstore>),
}

/// A policy with its keys.
#[derive(Debug)]
pub struct Policy {
    path: PathBuf,
    id: Digest,
    default: Vec<Requirement>,
    registries: BTreeMap<String, Vec<Requirement>>,
    /// Images that passed, by id of the image and name.
    passed: Mutex<HashSet<(Digest, String)>>,
}

impl Policy {
    /// Reads a policy and the files it names.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        Self::load_with_files(path).map(|(policy, _)| policy)
    }

    /// The policy, and every file that was read for it as it looked before.
    pub(crate) fn load_with_files(
        path: &Path,
    ) -> Result<(Self, Vec<(PathBuf, Stamp)>), PolicyError> {
        let mut reader = Reader::new(path);
        let json = reader.read(path)?;
        let policy = Self::build(path, &json, &mut reader)?;
        Ok((policy.with_id(reader.hash), reader.files))
    }

    fn with_id(self, hash: sha2::Sha256) -> Self {
        let id = hash.into();
        Self { id, ..self }
    }

    /// Reads the text of a policy. Files that it names are read, too.
    pub fn parse(path: &Path, json: &[u8]) -> Result<Self, PolicyError> {
        let mut reader = Reader::new(path);
        reader.hash.update(json);
        let policy = Self::build(path, json, &mut reader)?;
        Ok(policy.with_id(reader.hash))
    }

    fn build(path: &Path, json: &[u8], reader: &mut Reader) -> Result<Self, PolicyError> {
        let document: Document = serde_json::from_slice(json).map_err(|e| {
            // The place is told apart from the reason.
            let reason = e.to_string();
            let place = format!(" at line {} column {}", e.line(), e.column());
            PolicyError::Invalid {
                path: path.to_owned(),
                line: e.line(),
                column: e.column(),
                reason: reason.strip_suffix(&place).unwrap_or(&reason).to_owned(),
            }
        })?;
        let (default, scopes) = document.registries();
        let default = reader.requirements("", default)?;
        let mut registries = BTreeMap::new();
        for (scope, requirements) in scopes {
            let requirements = reader.requirements(&scope, requirements)?;
            registries.insert(scope, requirements);
        }
        Ok(Self {
            path: path.to_owned(),
            id: Digest::of(json),
            default,
            registries,
            passed: Mutex::default(),
        })
    }

    /// Digest of the policy and of every file it names: the same id, the same verdicts.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The scope that an image falls under, and what it needs. The scope is empty for what holds
    /// for all of a transport and for the default.
    fn requirements(&self, image: &Reference) -> (String, &[Requirement]) {
        for scope in scopes(image).into_iter().chain([String::new()]) {
            if let Some(requirements) = self.registries.get(&scope) {
                return (scope, requirements);
            }
        }
        (String::new(), &self.default)
    }

    /// Whether signatures decide about an image. An image that is rejected whatever they say is
    /// so at once.
    pub fn needs_signatures(&self, image: &Reference) -> Result<bool, Rejection> {
        let (scope, requirements) = self.requirements(image);
        let rejected = |one: &Requirement| matches!(one, Requirement::Reject);
        if requirements.iter().any(rejected) {
            return Err(Rejection::Rejected {
                policy: self.path.clone(),
                scope,
            });
        }
        Ok(requirements
            .iter()
            .any(|one| matches!(one, Requirement::Sigstore(_))))
    }

    /// Whether an image may be had by this name, when `digests` are those of its manifest and of
    /// the index that led to it, and `evidence` is what was found of signatures. Only evidence from
    /// the image's own repository and of one of the digests counts.
    pub fn check(
        &self,
        image: &Reference,
        digests: &[Digest],
        evidence: &[Evidence],
    ) -> Result<(), Rejection> {
        self.needs_signatures(image)?;
        let (scope, requirements) = self.requirements(image);
        let repository = image.name();
        let evidence: Vec<&Evidence> = evidence
            .iter()
            .filter(|one| one.repository == repository && digests.contains(&one.digest))
            .collect();
        for requirement in requirements {
            let Requirement::Sigstore(sigstore) = requirement else {
                continue;
            };
            let flaws = match sigstore.check(image, &evidence) {
                Ok(()) => continue,
                Err(flaws) => flaws,
            };
            let policy = self.path.clone();
            return Err(match flaws.is_empty() {
                false => Rejection::Unacceptable {
                    policy,
                    scope,
                    flaws,
                },
                true => Rejection::Unsigned {
                    policy,
                    scope,
                    repository,
                    digest: digests.first().map(ToString::to_string).unwrap_or_default(),
                },
            });
        }
        Ok(())
    }

    /// Whether an image of that id passed under that name before. It still would: both the policy
    /// and the image are named by their content, and no signature is ever taken from an image.
    pub fn has_passed(&self, id: Digest, name: &str) -> bool {
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.contains(&(id, name.to_owned()))
    }

    /// Remembers that an image passed.
    pub fn pass(&self, id: Digest, name: &str) {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.len() >= MAX_VERDICTS {
            passed.clear();
        }
        passed.insert((id, name.to_owned()));
    }
}

/// Reads what a policy names, and notes what it read.
struct Reader {
    policy: PathBuf,
    /// As they looked before they were read: one that changes meanwhile is read again later.
    files: Vec<(PathBuf, Stamp)>,
    hash: sha2::Sha256,
}

impl Reader {
    fn new(policy: &Path) -> Self {
        Self {
            policy: policy.to_owned(),
            files: Vec::new(),
            hash: sha2::Sha256::new(),
        }
    }

    fn read(&mut self, path: &Path) -> Result<Vec<u8>, PolicyError> {
        let read = Stamp::of(path).and_then(|stamp| Ok((stamp, read(path)?)));
        let (stamp, content) = read.map_err(|e| PolicyError::Read {
            policy: self.policy.clone(),
            path: path.to_owned(),
            reason: e.to_string(),
        })?;
        self.files.push((path.to_owned(), stamp));
        self.hash.update((content.len() as u64).to_be_bytes());
        self.hash.update(&content);
        Ok(content)
    }

    fn requirements(
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
