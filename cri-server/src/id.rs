//! Names of pods and containers: 64 lower-case hexadecimal characters.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Number of characters of an [`Id`].
const LENGTH: usize = 64;

/// The id of a pod or a container. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Arc<str>);

impl Id {
    /// A new random id. Fails when the kernel has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; LENGTH / 2];
        getrandom::fill(&mut bytes)?;
        let digit = |n: u8| char::from(b"0123456789abcdef"[usize::from(n)]);
        let text: String = bytes
            .iter()
            .flat_map(|b| [digit(b >> 4), digit(b & 15)])
            .collect();
        Ok(Self(text.into()))
    }

    /// Checks what a client or a file says; `None` when it is no id.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == LENGTH && text.bytes().all(hex)).then(|| Self(text.into()))
    }

    /// The first twelve characters, for names that must stay short.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not an id")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_id_parses_and_differs_from_the_next() {
        let id = Id::random().unwrap();
        assert_eq!(Id::parse(id.as_str()).as_ref(), Some(&id));
        assert_ne!(id, Id::random().unwrap());
        assert_eq!(id.short(), &id.as_str()[..12]);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let good = "0123456789abcdef".repeat(4);
        assert!(Id::parse(&good).is_some());
        for bad in [
            "",
            "../../etc",
            &good[1..],
            &good.to_uppercase(),
            &format!("{good}0"),
        ] {
            assert_eq!(Id::parse(bad), None, "{bad}");
        }
        assert!(serde_json::from_str::<Id>("\"../x\"").is_err());
    }
}
