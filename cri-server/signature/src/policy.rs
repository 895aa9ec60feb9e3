//! A policy ready for use: what was read, with all its keys, and its verdict on an image.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use skiff_reference::{Digest, Reference};

use crate::attached::Evidence;
use crate::load::{PolicyError, Reader};
use crate::scope::scopes;
use crate::sigstore::{Flaw, Sigstore};
use crate::stamp::Stamp;

/// Verdicts that are remembered.
const MAX_VERDICTS: usize = 4096;

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
    #[error("{} (signature policy {}, scope {scope:?})", reasons(flaws), policy.display())]
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
        [one] if matches!(flaws, [Flaw::Email { .. }]) => one.clone(),
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
pub(crate) enum Requirement {
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
        let policy = Self::build(&json, &mut reader)?;
        Ok((policy, reader.files))
    }

    /// Reads the text of a policy. Files that it names are read, too.
    pub fn parse(path: &Path, json: &[u8]) -> Result<Self, PolicyError> {
        let mut reader = Reader::new(path);
        reader.note(json);
        Self::build(json, &mut reader)
    }

    fn build(json: &[u8], reader: &mut Reader) -> Result<Self, PolicyError> {
        let (default, scopes) = reader.document(json)?.registries();
        let default = reader.requirements("", default)?;
        let mut registries = BTreeMap::new();
        for (scope, requirements) in scopes {
            let requirements = reader.requirements(&scope, requirements)?;
            registries.insert(scope, requirements);
        }
        Ok(Self {
            path: reader.policy.clone(),
            id: reader.id(),
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
