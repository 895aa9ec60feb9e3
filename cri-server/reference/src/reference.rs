//! Image references: what a pod's `image:` field may say, and its full form.
//!
//! `[registry/]repository[:tag][@digest]`. Without a registry the name belongs to docker.io, and
//! there to `library/` when it has one component; without tag and digest the tag is `latest`.
//! A first component is a registry when it contains a dot or a colon, is `localhost`, or has an
//! upper-case letter, which a repository cannot have.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// Longest reference that is looked at, in bytes: a name, a tag and a digest have room.
const MAX_LEN: usize = 512;
/// Longest registry and repository together, in bytes, as registries have it.
const MAX_NAME: usize = 255;
const DOCKER_HUB: &str = "docker.io";

/// A reference in its full form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference {text:?}: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: String,
}

impl Reference {
    /// Host and optional port of the registry, `docker.io` when none was given.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path of the repository within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` only when there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `registry/repository:tag`, when there is a tag. With a digest beside it the tag only
    /// decorates: what is pulled need not be what the tag names, so there is none then.
    pub fn tagged(&self) -> Option<String> {
        match (&self.tag, self.digest) {
            (Some(tag), None) => Some(format!("{}:{tag}", self.name())),
            _ => None,
        }
    }

    /// `registry/repository@digest`.
    pub fn with_digest(&self, digest: Digest) -> String {
        format!("{}@{digest}", self.name())
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    pub fn target(&self) -> String {
        match (&self.tag, self.digest) {
            (_, Some(digest)) => digest.to_string(),
            (Some(tag), None) => tag.clone(),
            (None, None) => unreachable!("parsing adds a tag where there is no digest"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|reason| ReferenceError {
            text: text.chars().take(MAX_LEN).collect(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text.len() > MAX_LEN {
        return Err(format!("it is longer than {MAX_LEN} bytes"));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (
            rest,
            Some(digest.parse::<Digest>().map_err(|e| e.to_string())?),
        ),
        None => (text, None),
    };
    // A colon after the last slash starts a tag; one before it is a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (registry, repository) = split_registry(name);
    check_registry(&registry)?;
    for component in repository.split('/') {
        check_component(component)?;
    }
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err(format!("its name is longer than {MAX_NAME} bytes"));
    }
    let tag = match (tag, digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some("latest".to_owned()),
    };
    Ok(Reference {
        registry,
        repository,
        tag,
        digest,
    })
}

fn split_registry(name: &str) -> (String, String) {
    let hub = |repository: &str| match repository.contains('/') {
        true => (DOCKER_HUB.to_owned(), repository.to_owned()),
        false => (DOCKER_HUB.to_owned(), format!("library/{repository}")),
    };
    match name.split_once('/') {
        Some(("docker.io" | "index.docker.io", repository)) => hub(repository),
        Some((first, repository)) if is_registry(first) => {
            (first.to_owned(), repository.to_owned())
        }
        _ => hub(name),
    }
}

fn is_registry(component: &str) -> bool {
    component == "localhost"
        || component.contains(['.', ':'])
        || component.chars().any(|c| c.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), String> {
    let bad = || format!("{registry:?} is not a registry's host name and port");
    let (host, port) = match registry.strip_prefix('[') {
        Some(v6) => {
            let (address, port) = v6.split_once(']').ok_or_else(bad)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            match port.strip_prefix(':') {
                Some(port) => ("", Some(port)),
                None if port.is_empty() => ("", None),
                None => return Err(bad()),
            }
        }
        None => match registry.split_once(':') {
            Some((host, port)) if !host.is_empty() => (host, Some(port)),
            None if !registry.is_empty() => (registry, None),
            _ => return Err(bad()),
        },
    };
    let label_ok = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !host.is_empty() && !host.split('.').all(label_ok) {
        return Err(bad());
    }
    match port {
        Some(p) if p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit()) => Err(bad()),
        Some(p) if p.parse::<u16>().is_err() => Err(bad()),
        _ => Ok(()),
    }
}

fn check_tag(tag: &str) -> Result<(), String> {
    let first_ok = tag
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let rest_ok = tag
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first_ok && rest_ok && tag.len() <= 128 {
        return Ok(());
    }
    Err(format!(
        "tag {tag:?} must be 1 to 128 of letters, digits, '_', '.' and '-'"
    ))
}

/// Lower-case letters and digits, separated by one '.', one or two '_', or any number of '-'.
fn check_component(component: &str) -> Result<(), String> {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_ok = bytes.first().is_some_and(|b| alphanumeric(*b))
        && bytes.last().is_some_and(|b| alphanumeric(*b));
    let separators_ok = component
        .split(|c: char| c.is_ascii() && alphanumeric(c as u8))
        .filter(|separator| !separator.is_empty())
        .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'));
    if ends_ok && separators_ok {
        return Ok(());
    }
    Err(format!(
        "{component:?} is not a repository name: lower-case letters and digits, separated by '.', '_', '__' or '-'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn full_forms() {
        let digest = format!("sha256:{HEX}");
        for (short, full) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".to_owned()),
            ("user/app", "docker.io/user/app:latest".to_owned()),
            (
                "docker.io/busybox",
                "docker.io/library/busybox:latest".to_owned(),
            ),
            (
                "index.docker.io/library/busybox",
                "docker.io/library/busybox:latest".to_owned(),
            ),
            ("localhost/x", "localhost/x:latest".to_owned()),
            ("localhost:5000/x", "localhost:5000/x:latest".to_owned()),
            ("127.0.0.1:5000/x/y:z", "127.0.0.1:5000/x/y:z".to_owned()),
            ("[::1]:5000/x", "[::1]:5000/x:latest".to_owned()),
            (
                "registry.k8s.io/pause:3.10",
                "registry.k8s.io/pause:3.10".to_owned(),
            ),
            ("Host/x", "Host/x:latest".to_owned()),
            (
                &format!("busybox@{digest}"),
                format!("docker.io/library/busybox@{digest}"),
            ),
            (
                &format!("q.io/a/b:c@{digest}"),
                format!("q.io/a/b:c@{digest}"),
            ),
            (
                "a__b/c-d---e.f",
                "docker.io/a__b/c-d---e.f:latest".to_owned(),
            ),
        ] {
            let reference: Reference = short.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(full.parse(), Ok(reference), "{full} is its own full form");
        }
    }

    #[test]
    fn malformed_is_refused() {
        let long = "a".repeat(MAX_LEN + 1);
        let tag = format!("x:{}", "t".repeat(129));
        for bad in [
            "",
            " ",
            ":",
            "@",
            "/",
            "x:",
            "x@",
            "/x",
            "x/",
            "x//y",
            "X",
            "x:ta g",
            "x:-t",
            "ho st/x",
            "x@sha256:12",
            "x@sha512:ab",
            "x.y:port/z",
            "x.y:99999/z",
            "[::1/x",
            "[zz]:1/x",
            ":5000/x",
            "-x",
            "a___b",
            "a..b",
            "http://x.y/z",
            "x\0",
            "héllo",
            "-.io/x",
            &long,
            &tag,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }

    /// The full form of a longer one would not be a reference.
    #[test]
    fn the_longest_name_has_room_for_tag_and_digest() {
        let name = "a".repeat(MAX_NAME - "docker.io/library/".len());
        let reference: Reference = format!("{name}:{}", "t".repeat(128)).parse().unwrap();
        assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
        let named = reference.with_digest(Digest::of(b""));
        assert!(named.parse::<Reference>().is_ok());
        assert!(format!("{name}a").parse::<Reference>().is_err());
    }

    #[test]
    fn a_digest_beats_a_tag() {
        let reference: Reference = format!("x:tag@sha256:{HEX}").parse().unwrap();
        assert_eq!(reference.tagged(), None);
        assert_eq!(reference.target(), format!("sha256:{HEX}"));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,80}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse(), Ok(reference));
            }
        }

        #[test]
        fn anything_like_a_reference_keeps_its_full_form(
            text in "([a-z]{1,4}[.:]?[a-z0-9]{0,4}/)?[a-z._-]{1,9}(/[a-z]{1,3})?(:[a-zA-Z0-9._-]{0,5})?"
        ) {
            if let Ok(reference) = text.parse::<Reference>() {
                let full = reference.to_string();
                prop_assert!(full.contains('/') && full.len() >= text.len());
                prop_assert_eq!(full.parse(), Ok(reference));
            }
        }
    }
}
