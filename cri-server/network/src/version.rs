//! Versions of the CNI specification and the choice among those a configuration offers.

use std::fmt;
use std::str::FromStr;

/// A version of the specification that this client speaks, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

/// A version this client does not speak.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("cniVersion {0:?} is not one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0")]
pub struct UnknownVersion(String);

/// How results are written down: what two versions must share for a result of one to be a
/// result of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `ip4` and `ip6`, each with an address, a gateway and routes.
    Legacy,
    /// `ips` with a `version` of "4" or "6" in each.
    Tagged,
    /// `ips` without it.
    Plain,
}

impl UnknownVersion {
    /// For something that is not even text.
    pub(crate) fn from_value(value: &serde_json::Value) -> Self {
        Self(value.to_string())
    }
}

impl Version {
    /// What a configuration without `cniVersion` means.
    pub(crate) const UNSTATED: Self = Self::V0_1_0;

    const ALL: [(Self, &'static str); 7] = [
        (Self::V0_1_0, "0.1.0"),
        (Self::V0_2_0, "0.2.0"),
        (Self::V0_3_0, "0.3.0"),
        (Self::V0_3_1, "0.3.1"),
        (Self::V0_4_0, "0.4.0"),
        (Self::V1_0_0, "1.0.0"),
        (Self::V1_1_0, "1.1.0"),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    pub(crate) fn form(self) -> Form {
        match self {
            Self::V0_1_0 | Self::V0_2_0 => Form::Legacy,
            Self::V0_3_0 | Self::V0_3_1 | Self::V0_4_0 => Form::Tagged,
            Self::V1_0_0 | Self::V1_1_0 => Form::Plain,
        }
    }

    /// CHECK exists, and DEL is given the result of ADD.
    pub(crate) fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// STATUS and GC exist.
    pub(crate) fn has_status_and_gc(self) -> bool {
        self >= Self::V1_1_0
    }

    /// The newest version of `cniVersion` and `cniVersions` that this client speaks.
    pub(crate) fn choose(stated: Option<&str>, offered: &[String]) -> Result<Self, UnknownVersion> {
        let all = stated.into_iter().chain(offered.iter().map(String::as_str));
        let known = all.clone().filter_map(|v| v.parse().ok()).max();
        match (known, all.last()) {
            (Some(version), _) => Ok(version),
            (None, None) => Ok(Self::UNSTATED),
            (None, Some(unknown)) => Err(UnknownVersion(unknown.to_owned())),
        }
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        match text {
            "" => Ok(Self::UNSTATED),
            _ => Self::ALL
                .iter()
                .find(|(_, name)| *name == text)
                .map(|(version, _)| *version)
                .ok_or_else(|| UnknownVersion(text.to_owned())),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_version() {
        for (version, name) in Version::ALL {
            assert_eq!(name.parse(), Ok(version));
            assert_eq!(version.to_string(), name);
        }
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        let offered = |list: &[&str]| list.iter().map(|v| v.to_string()).collect::<Vec<_>>();
        let cases = [
            (None, offered(&[]), Some(Version::V0_1_0)),
            (Some(""), offered(&[]), Some(Version::V0_1_0)),
            (Some("0.3.1"), offered(&[]), Some(Version::V0_3_1)),
            (
                Some("0.4.0"),
                offered(&["1.1.0", "1.0.0"]),
                Some(Version::V1_1_0),
            ),
            (Some("0.4.0"), offered(&["2.0.0"]), Some(Version::V0_4_0)),
            (Some("2.0.0"), offered(&["1.0.0"]), Some(Version::V1_0_0)),
            (Some("2.0.0"), offered(&[]), None),
            (Some("1.0"), offered(&[]), None),
        ];
        for (stated, offered, expected) in cases {
            assert_eq!(
                Version::choose(stated, &offered).ok(),
                expected,
                "{stated:?} {offered:?}"
            );
        }
    }
}
