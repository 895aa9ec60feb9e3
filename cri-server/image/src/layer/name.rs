//! Names of entries: paths within a layer, and what overlay images encode in them.

use super::error::LayerError;

/// A clean path: components separated by single slashes; no `.`, no `..`, nothing absolute.
/// Empty for the layer's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(Vec<u8>);

/// What the last component of an entry's path means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// An entry like any other.
    Entry,
    /// This name in the same directory hides what lies below.
    Whiteout(&'a [u8]),
    /// The directory hides everything below.
    Opaque,
    /// Notes of aufs to itself.
    Ignored,
}

impl Name {
    /// Cleans a path of an archive. Leading slashes are dropped: paths count from the layer's
    /// root. `..` is refused, for no honest archive has it.
    pub(super) fn parse(path: &[u8]) -> Result<Self, LayerError> {
        let mut clean = Vec::with_capacity(path.len());
        for component in path.split(|b| *b == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(LayerError::refused(path, "has '..' in its path")),
                _ if component.contains(&0) => {
                    return Err(LayerError::refused(path, "has a NUL byte in its path"));
                }
                _ => {}
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(component);
        }
        Ok(Self(clean))
    }

    /// Where a symbolic link in directory `from` leads, its `..` ending at the root.
    pub(super) fn follow(from: &[u8], target: &[u8]) -> Self {
        let mut components: Vec<&[u8]> = Vec::new();
        let start: &[u8] = if target.starts_with(b"/") { b"" } else { from };
        for component in start
            .split(|b| *b == b'/')
            .chain(target.split(|b| *b == b'/'))
        {
            match component {
                b"" | b"." => {}
                b".." => drop(components.pop()),
                _ => components.push(component),
            }
        }
        Self(components.join(&b'/'))
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Directory and last component. The directory is empty for an entry of the root.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (b"", &self.0),
        }
    }
}

/// What a last component means.
pub(super) fn meaning(component: &[u8]) -> Result<Meaning<'_>, LayerError> {
    let Some(hidden) = component.strip_prefix(b".wh.") else {
        return Ok(Meaning::Entry);
    };
    match hidden {
        b".wh..opq" => Ok(Meaning::Opaque),
        b"" | b"." | b".." => Err(LayerError::refused(component, "is a whiteout of nothing")),
        _ if hidden.starts_with(b".wh.") => Ok(Meaning::Ignored),
        _ => Ok(Meaning::Whiteout(hidden)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean(path: &str) -> Option<String> {
        let name = Name::parse(path.as_bytes()).ok()?;
        Some(String::from_utf8(name.0).unwrap())
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("./", ""),
            ("/", ""),
            ("", ""),
            (".", ""),
            ("a", "a"),
            ("./a//b/./c/", "a/b/c"),
            ("/etc/passwd", "etc/passwd"),
            ("..a/b..", "..a/b.."),
            ("a\nb", "a\nb"),
        ] {
            assert_eq!(clean(path).as_deref(), Some(expected), "{path:?}");
        }
        for bad in ["..", "../a", "a/..", "a/../../b", "/../etc", "a\0b"] {
            assert_eq!(clean(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn links_end_at_the_root() {
        for (from, target, expected) in [
            ("a/b", "c", "a/b/c"),
            ("a/b", "../c", "a/c"),
            ("a", "/x/./y", "x/y"),
            ("a/b", "../../../../etc", "etc"),
            ("", "..", ""),
        ] {
            let name = Name::follow(from.as_bytes(), target.as_bytes());
            assert_eq!(name.0, expected.as_bytes(), "{from} -> {target}");
        }
    }

    #[test]
    fn meanings() {
        assert_eq!(meaning(b"a").unwrap(), Meaning::Entry);
        assert_eq!(meaning(b".whale").unwrap(), Meaning::Entry);
        assert_eq!(meaning(b".wh.a").unwrap(), Meaning::Whiteout(b"a"));
        assert_eq!(meaning(b".wh..wh..opq").unwrap(), Meaning::Opaque);
        assert_eq!(meaning(b".wh..wh.plnk").unwrap(), Meaning::Ignored);
        assert_eq!(
            meaning(b".wh..hidden").unwrap(),
            Meaning::Whiteout(b".hidden")
        );
        for bad in [b".wh.".as_slice(), b".wh..", b".wh..."] {
            assert!(meaning(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_path_escapes(path in "[a./\\x00]{0,20}") {
            if let Ok(name) = Name::parse(path.as_bytes()) {
                let ok = |c: &[u8]| !matches!(c, b"" | b"." | b"..") && !c.contains(&0);
                prop_assert!(name.is_root() || name.0.split(|b| *b == b'/').all(ok));
            }
        }

        #[test]
        fn no_link_escapes(from in "[a/]{0,9}", target in "[a./]{0,20}") {
            let name = Name::follow(from.as_bytes(), target.as_bytes());
            prop_assert!(Name::parse(&name.0).is_ok_and(|again| again == name));
        }
    }
}
