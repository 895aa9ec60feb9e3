//! Resource limits of processes.

use oci_spec::OciSpecError;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A limit's name: that of ulimits everywhere, `nofile` for RLIMIT_NOFILE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "setrlimit(2) has them")]
pub enum UlimitName {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl UlimitName {
    fn rlimit(self) -> PosixRlimitType {
        match self {
            Self::As => PosixRlimitType::RlimitAs,
            Self::Core => PosixRlimitType::RlimitCore,
            Self::Cpu => PosixRlimitType::RlimitCpu,
            Self::Data => PosixRlimitType::RlimitData,
            Self::Fsize => PosixRlimitType::RlimitFsize,
            Self::Locks => PosixRlimitType::RlimitLocks,
            Self::Memlock => PosixRlimitType::RlimitMemlock,
            Self::Msgqueue => PosixRlimitType::RlimitMsgqueue,
            Self::Nice => PosixRlimitType::RlimitNice,
            Self::Nofile => PosixRlimitType::RlimitNofile,
            Self::Nproc => PosixRlimitType::RlimitNproc,
            Self::Rss => PosixRlimitType::RlimitRss,
            Self::Rtprio => PosixRlimitType::RlimitRtprio,
            Self::Rttime => PosixRlimitType::RlimitRttime,
            Self::Sigpending => PosixRlimitType::RlimitSigpending,
            Self::Stack => PosixRlimitType::RlimitStack,
        }
    }
}

/// What a process is held to, and what it may raise that to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Ulimit {
    /// In force.
    pub soft: Bound,
    /// The most that `soft` can be set to.
    pub hard: Bound,
}

impl Ulimit {
    /// The same as the runtime-spec has it.
    pub fn rlimit(&self, name: UlimitName) -> Result<PosixRlimit, OciSpecError> {
        let builder = PosixRlimitBuilder::default().typ(name.rlimit());
        builder.soft(self.soft.0).hard(self.hard.0).build()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    soft: Bound,
    hard: Bound,
}

impl TryFrom<Written> for Ulimit {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.soft > written.hard {
            return Err("soft is above hard".into());
        }
        Ok(Self {
            soft: written.soft,
            hard: written.hard,
        })
    }
}

/// A number, or `"unlimited"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bound(u64);

const UNLIMITED: &str = "unlimited";

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            u64::MAX => serializer.serialize_str(UNLIMITED),
            number => serializer.serialize_u64(number),
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(i64),
            Word(String),
        }
        match Either::deserialize(deserializer) {
            Ok(Either::Number(number)) if number >= 0 => Ok(Self(number.unsigned_abs())),
            Ok(Either::Word(word)) if word == UNLIMITED => Ok(Self(u64::MAX)),
            _ => Err(D::Error::custom(
                "neither a number from 0 nor \"unlimited\"",
            )),
        }
    }
}
