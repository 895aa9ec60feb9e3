//! The document: the runtime-spec's `linux.seccomp`, with what Docker's profiles add to it.
//!
//! Docker's files have `archMap` in the place of `architectures`, `name` beside `names`, and
//! rules that apply only with or without capabilities, architectures and kernels (`includes`,
//! `excludes`). A reader that took such a file for a plain one would allow what it excludes.

use oci_spec::runtime::LinuxSeccomp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Largest profile that is read, in bytes. Those in use have some ten thousand.
const MAX: usize = 4 * 1024 * 1024;

/// Most arguments a system call has.
const ARGUMENTS: u32 = 6;

/// Names of the actions of a profile.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// Names of the operators of a profile's arguments.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// Names of the flags of a profile.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// A profile is not one.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not JSON, or JSON of another kind. The text ends with line and column.
    #[error("not a seccomp profile: {0}")]
    Json(#[from] serde_json::Error),
    /// It says something that cannot be meant.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field, as `syscalls[3].args[0].index`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody writes such a long one.
    #[error("{0} bytes, more than {MAX}")]
    TooLarge(usize),
}

/// A seccomp profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub(crate) default_action: Action,
    pub(crate) default_errno_ret: Option<u32>,
    #[serde(default)]
    pub(crate) architectures: Vec<String>,
    #[serde(default)]
    pub(crate) arch_map: Vec<SubArchitectures>,
    #[serde(default)]
    pub(crate) flags: Vec<Flag>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) syscalls: Vec<Rule>,
}

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum Action {
    /// The thread is killed: an older name of [`Action::KillThread`].
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    /// The whole process is killed.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// The thread is killed.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// The thread gets SIGSYS.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// It fails with an errno.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// A tracer is asked.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// The agent at the listener's other end decides.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
    /// It is carried out and logged.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// It is carried out.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
}

/// A flag of `seccomp(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub(crate) enum Flag {
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    Tsync,
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    SpecAllow,
    #[serde(rename = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    WaitKillableRecv,
}

/// An architecture of Docker's `archMap`, with those whose programs it also runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubArchitectures {
    pub(crate) architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) sub_architectures: Vec<String>,
}

/// What happens to some system calls.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rule {
    #[serde(default, deserialize_with = "null_is_empty")]
    names: Vec<String>,
    name: Option<String>,
    pub(crate) action: Action,
    pub(crate) errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) args: Vec<Argument>,
    #[serde(default)]
    pub(crate) includes: Conditions,
    #[serde(default)]
    pub(crate) excludes: Conditions,
}

impl Rule {
    /// Names of the system calls.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.names.iter().chain(&self.name).map(String::as_str)
    }
}

/// A comparison of an argument of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Argument {
    pub(crate) index: u32,
    pub(crate) value: u64,
    #[serde(default)]
    pub(crate) value_two: u64,
    pub(crate) op: Operator,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// `argument & value == valueTwo`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// To whom a rule of Docker's format applies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Conditions {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) arches: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) caps: Vec<String>,
    /// Major and minor.
    #[serde(default, deserialize_with = "kernel")]
    pub(crate) min_kernel: Option<(u32, u32)>,
}

/// Where the descriptor of `SCMP_ACT_NOTIFY` goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The agent's unix socket.
    pub path: PathBuf,
    /// Handed to the agent as it is.
    pub metadata: String,
}

impl Profile {
    /// Reads a profile.
    pub fn parse(json: &[u8]) -> Result<Self, ProfileError> {
        if json.len() > MAX {
            return Err(ProfileError::TooLarge(json.len()));
        }
        let profile: Self = serde_json::from_slice(json)?;
        profile.check()?;
        Ok(profile)
    }

    /// The profile of a runtime-spec configuration.
    pub fn of(seccomp: &LinuxSeccomp) -> Result<Self, ProfileError> {
        let profile: Self = serde_json::from_value(serde_json::to_value(seccomp)?)?;
        profile.check()?;
        Ok(profile)
    }

    /// The agent that is asked, when the profile has a rule for one.
    pub fn listener(&self) -> Option<Listener> {
        let asks = self.actions().any(|action| action == Action::Notify);
        let path = self.listener_path.clone().filter(|_| asks)?;
        Some(Listener {
            path,
            metadata: self.listener_metadata.clone().unwrap_or_default(),
        })
    }

    /// The capabilities that rules depend on, as the profile spells them, sorted.
    pub fn capabilities(&self) -> Vec<String> {
        let conditions = |rule: &'_ Rule| {
            [&rule.includes.caps, &rule.excludes.caps]
                .map(Vec::as_slice)
                .concat()
        };
        let mut names: Vec<String> = self.syscalls.iter().flat_map(conditions).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn actions(&self) -> impl Iterator<Item = Action> {
        let rules = self.syscalls.iter().map(|rule| rule.action);
        std::iter::once(self.default_action).chain(rules)
    }

    fn check(&self) -> Result<(), ProfileError> {
        errno("defaultErrnoRet", self.default_errno_ret)?;
        if self.default_action == Action::Notify {
            // Our own calls between loading the filter and handing out its listener would wait
            // for an agent that cannot answer yet.
            return Err(invalid(
                "defaultAction",
                "SCMP_ACT_NOTIFY cannot be the default",
            ));
        }
        if !self.architectures.is_empty() && !self.arch_map.is_empty() {
            return Err(invalid("archMap", "given together with architectures"));
        }
        for (i, rule) in self.syscalls.iter().enumerate() {
            let field = |name: &str| format!("syscalls[{i}].{name}");
            errno(&field("errnoRet"), rule.errno_ret)?;
            if rule.names().next().is_none() {
                return Err(invalid(field("names"), "empty"));
            }
            if rule.action == Action::Notify
                && let Some(name) = rule.names().find(|name| matches!(*name, "write" | "read"))
            {
                let problem = format!("{name}: the runtime needs it to hand out the listener");
                return Err(invalid(field("names"), problem));
            }
            if let Some((at, argument)) = rule
                .args
                .iter()
                .enumerate()
                .find(|(_, a)| a.index >= ARGUMENTS)
            {
                let problem = format!("{} is not from 0 to {}", argument.index, ARGUMENTS - 1);
                return Err(invalid(field(&format!("args[{at}].index")), problem));
            }
        }
        let asks = self.actions().any(|action| action == Action::Notify);
        match &self.listener_path {
            None if asks => Err(invalid(
                "listenerPath",
                "missing, and a rule has SCMP_ACT_NOTIFY",
            )),
            Some(path) if !path.is_absolute() => {
                let problem = format!("{} is not an absolute path", path.display());
                Err(invalid("listenerPath", problem))
            }
            _ => Ok(()),
        }
    }
}

/// The kernel carries an errno in 16 bits and cuts it to its largest, 4095.
fn errno(field: &str, value: Option<u32>) -> Result<(), ProfileError> {
    const MAX_ERRNO: u32 = 4095;
    match value {
        Some(value) if value > MAX_ERRNO => Err(invalid(
            field,
            format!("{value} is not from 0 to {MAX_ERRNO}"),
        )),
        _ => Ok(()),
    }
}

fn invalid(field: impl Into<String>, problem: impl Into<String>) -> ProfileError {
    ProfileError::Invalid {
        field: field.into(),
        problem: problem.into(),
    }
}

/// `major.minor`, perhaps with more behind it; empty for none.
fn kernel<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<(u32, u32)>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let mut numbers = text.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok(Some((major, minor))),
        _ => Err(serde::de::Error::custom(format!(
            "{text:?} is not a kernel version"
        ))),
    }
}

/// Docker's generator writes empty lists as `null`.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
