//! Patterns of images that a kubelet must not remove.

use skiff_reference::Reference;

use crate::error::StoreError;

/// One pattern: a reference, or text with `*` at its start, its end, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
}

/// The configured patterns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins(Vec<Pattern>);

impl Pins {
    /// Reads the patterns of the configuration.
    pub(crate) fn parse(patterns: &[String]) -> Result<Self, StoreError> {
        patterns
            .iter()
            .map(|pattern| parse(pattern))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether any of an image's names, in their full form, is pinned.
    pub(crate) fn matches<'a>(&self, mut names: impl Iterator<Item = &'a String>) -> bool {
        names.any(|name| self.0.iter().any(|pattern| pattern.matches(name)))
    }
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Prefix(prefix) => name.starts_with(prefix),
            Self::Suffix(suffix) => name.ends_with(suffix),
            Self::Contains(part) => name.contains(part),
        }
    }
}

fn parse(pattern: &str) -> Result<Pattern, StoreError> {
    let bad = || StoreError::Pattern {
        pattern: pattern.to_owned(),
    };
    let (head, tail) = (pattern.strip_prefix('*'), pattern.strip_suffix('*'));
    let parsed = match (head, tail) {
        (Some(""), _) => Pattern::Prefix(String::new()),
        (Some(rest), Some(_)) => Pattern::Contains(rest[..rest.len() - 1].to_owned()),
        (Some(rest), None) => Pattern::Suffix(rest.to_owned()),
        (None, Some(rest)) => Pattern::Prefix(rest.to_owned()),
        (None, None) => {
            let reference: Reference = pattern.parse().map_err(|_| bad())?;
            Pattern::Exact(match reference.digest() {
                Some(digest) => reference.with_digest(digest),
                None => reference.to_string(),
            })
        }
    };
    let (Pattern::Exact(text)
    | Pattern::Prefix(text)
    | Pattern::Suffix(text)
    | Pattern::Contains(text)) = &parsed;
    if text.contains('*') {
        Err(bad())
    } else {
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(pattern: &str, name: &str) -> bool {
        let pins = Pins::parse(&[pattern.to_owned()]).unwrap();
        pins.matches([name.to_owned()].iter())
    }

    #[test]
    fn patterns() {
        assert!(pinned("busybox", "docker.io/library/busybox:latest"));
        assert!(!pinned("busybox", "docker.io/library/busybox:1"));
        assert!(pinned("registry.k8s.io/*", "registry.k8s.io/pause:3.10"));
        assert!(pinned("*/pause:3.10", "registry.k8s.io/pause:3.10"));
        assert!(pinned("*pause*", "registry.k8s.io/pause:3.10"));
        assert!(!pinned("*pause*", "registry.k8s.io/coredns:1"));
        assert!(pinned("*", "anything.io/x:1"));
    }

    #[test]
    fn a_star_in_the_middle_is_refused() {
        for bad in ["a*b", "*a*b*", "", "not valid"] {
            assert!(Pins::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
