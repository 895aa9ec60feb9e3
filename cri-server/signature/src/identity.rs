//! Whether the name in a signature is that of the image (`signedIdentity`).

use serde::Deserialize;
use skiff_reference::Reference;

/// Which signed names are accepted, as containers-policy.json(5) has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub(crate) enum SignedIdentity {
    /// The image's, with its tag or digest.
    MatchExact {},
    /// The image's with its tag; of an image pulled by digest, its repository.
    MatchRepoDigestOrExact {},
    /// Any of the image's repository.
    MatchRepository {},
    /// This one, whatever the image is called.
    ExactReference {
        /// With a tag or digest.
        docker_reference: String,
    },
    /// Any of this repository.
    ExactRepository {
        /// Without tag and digest.
        docker_repository: String,
    },
    /// As `MatchRepoDigestOrExact`, after the beginning of the image's name was replaced.
    RemapIdentity {
        /// A registry, or the beginning of repositories at one.
        prefix: String,
        /// What stands in its place in signatures.
        signed_prefix: String,
    },
}

impl Default for SignedIdentity {
    fn default() -> Self {
        Self::MatchRepoDigestOrExact {}
    }
}

/// A name that need not have a tag.
struct Name {
    reference: Reference,
    /// Neither tag nor digest was written.
    bare: bool,
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let reference: Reference = text.parse().ok()?;
        let defaulted = reference
            .tagged()
            .is_some_and(|name| name.ends_with(":latest"));
        let bare = defaulted && !text.ends_with(":latest");
        Some(Self { reference, bare })
    }
}

/// With the digest or the tag; where both are, the digest decides what is pulled.
fn exact(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => reference.with_digest(digest),
        None => reference.to_string(),
    }
}

impl SignedIdentity {
    /// Checks what a policy says; the error completes "signedIdentity: ...".
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::ExactReference { docker_reference } => match Name::parse(docker_reference) {
                Some(name) if !name.bare => Ok(()),
                _ => Err(format!(
                    "dockerReference {docker_reference:?} is no image name with a tag or digest"
                )),
            },
            Self::ExactRepository { docker_repository } => match Name::parse(docker_repository) {
                Some(name) if name.bare => Ok(()),
                _ => Err(format!(
                    "dockerRepository {docker_repository:?} is no repository without tag and digest"
                )),
            },
            Self::RemapIdentity {
                prefix,
                signed_prefix,
            } => [prefix, signed_prefix].into_iter().try_for_each(|prefix| {
                let repository = format!("{prefix}/x");
                match Name::parse(&repository) {
                    Some(name) if name.bare && name.reference.name() == repository => Ok(()),
                    _ => Err(format!(
                        "{prefix:?} is neither a registry nor the beginning of a repository's full name"
                    )),
                }
            }),
            _ => Ok(()),
        }
    }

    /// Whether `signed`, the name in a signature, is accepted for `image`.
    pub(crate) fn accepts(&self, image: &Reference, signed: &str) -> bool {
        let Some(signed) = Name::parse(signed) else {
            return false;
        };
        match self {
            Self::MatchExact {} => !signed.bare && exact(&signed.reference) == exact(image),
            Self::MatchRepoDigestOrExact {} => by_digest_or_exact(image, &signed),
            Self::MatchRepository {} => signed.reference.name() == image.name(),
            Self::ExactReference { docker_reference } => {
                let wanted = Name::parse(docker_reference);
                wanted.is_some_and(|wanted| {
                    !signed.bare && exact(&wanted.reference) == exact(&signed.reference)
                })
            }
            Self::ExactRepository { docker_repository } => {
                let wanted = Name::parse(docker_repository);
                wanted.is_some_and(|wanted| wanted.reference.name() == signed.reference.name())
            }
            Self::RemapIdentity {
                prefix,
                signed_prefix,
            } => match remap(image, prefix, signed_prefix) {
                Some(image) => by_digest_or_exact(&image, &signed),
                None => by_digest_or_exact(image, &signed),
            },
        }
    }
}

/// The digest in the signature is that of the image anyway, so an image that is named by digest
/// needs no tag in it.
fn by_digest_or_exact(image: &Reference, signed: &Name) -> bool {
    match image.digest() {
        _ if signed.bare => false,
        Some(_) => signed.reference.name() == image.name(),
        None => exact(&signed.reference) == exact(image),
    }
}

/// The image under its signed prefix, if its name begins with `prefix` and a slash or is it.
fn remap(image: &Reference, prefix: &str, signed_prefix: &str) -> Option<Reference> {
    let text = exact(image);
    let rest = text.strip_prefix(prefix)?;
    let name_rest = image.name().strip_prefix(prefix)?.to_owned();
    if !name_rest.is_empty() && !name_rest.starts_with('/') {
        return None;
    }
    format!("{signed_prefix}{rest}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(json: &str) -> SignedIdentity {
        let identity: SignedIdentity = serde_json::from_str(json).unwrap();
        identity.check().unwrap();
        identity
    }

    #[test]
    fn names_as_the_manual_has_them() {
        let digest = skiff_reference::Digest::of(b"x");
        let by_digest = format!("quay.io/a/b@{digest}");
        let exact = identity(r#"{"type":"matchExact"}"#);
        let default = SignedIdentity::default();
        let repository = identity(r#"{"type":"matchRepository"}"#);
        for (image, signed, is) in [
            ("quay.io/a/b:1", "quay.io/a/b:1", (true, true, true)),
            ("quay.io/a/b:1", "quay.io/a/b:2", (false, false, true)),
            ("quay.io/a/b:1", "quay.io/a/b", (false, false, true)),
            ("quay.io/a/b:latest", "quay.io/a/b", (false, false, true)),
            ("quay.io/a/b", "quay.io/a/b:latest", (true, true, true)),
            ("quay.io/a/b:1", "quay.io/a/c:1", (false, false, false)),
            (&by_digest, "quay.io/a/b:1", (false, true, true)),
            (&by_digest, &by_digest, (true, true, true)),
            (&by_digest, "quay.io/a/b", (false, false, true)),
            (&by_digest, "quay.io/a/c:1", (false, false, false)),
            (
                "busybox:1",
                "index.docker.io/library/busybox:1",
                (true, true, true),
            ),
            ("quay.io/a/b:1", "", (false, false, false)),
            ("quay.io/a/b:1", "quay.io/a/b:1:1", (false, false, false)),
        ] {
            let image: Reference = image.parse().unwrap();
            let got = [&exact, &default, &repository].map(|one| one.accepts(&image, signed));
            assert_eq!(got, [is.0, is.1, is.2], "{image} signed as {signed}");
        }
    }

    #[test]
    fn names_that_the_policy_gives() {
        let image: Reference = "mirror.example/up/a/b:1".parse().unwrap();
        let one = identity(r#"{"type":"exactReference","dockerReference":"quay.io/a/b:7"}"#);
        assert!(one.accepts(&image, "quay.io/a/b:7") && !one.accepts(&image, "quay.io/a/b:1"));
        let any = identity(r#"{"type":"exactRepository","dockerRepository":"quay.io/a/b"}"#);
        assert!(any.accepts(&image, "quay.io/a/b:7") && !any.accepts(&image, "quay.io/a/c:7"));
        let map = identity(
            r#"{"type":"remapIdentity","prefix":"mirror.example/up","signedPrefix":"quay.io"}"#,
        );
        assert!(map.accepts(&image, "quay.io/a/b:1") && !map.accepts(&image, "quay.io/a/b:2"));
        let beside: Reference = "mirror.example/upper/b:1".parse().unwrap();
        assert!(map.accepts(&beside, "mirror.example/upper/b:1"));
        assert!(!map.accepts(&beside, "quay.io/per/b:1"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            r#"{"type":"matchExact","x":1}"#,
            r#"{"type":"matchSomething"}"#,
            r#"{"type":"exactReference"}"#,
            r#"{"type":"exactReference","dockerReference":"quay.io/a"}"#,
            r#"{"type":"exactRepository","dockerRepository":"quay.io/a:1"}"#,
            r#"{"type":"remapIdentity","prefix":"quay.io/a:1","signedPrefix":"b.io"}"#,
            r#"{"type":"remapIdentity","prefix":"quay.io","signedPrefix":"library/x"}"#,
        ] {
            let parsed = serde_json::from_str::<SignedIdentity>(bad);
            assert!(!parsed.is_ok_and(|one| one.check().is_ok()), "{bad}");
        }
    }
}
