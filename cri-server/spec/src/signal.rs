//! Signals by number, by name and as the CRI counts them.

use std::fmt;

use crate::SpecError;
use crate::cri::{self, ContainerConfig};
use crate::input::ImageConfig;

/// First real-time signal that programs may use: the C library keeps 32 and 33.
const RTMIN: i32 = 34;
/// Last signal.
const RTMAX: i32 = 64;

/// Names of signals 1 to 31, without `SIG`. The order is the number, on every architecture that
/// skiff runs on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Second names.
const ALIASES: [(&str, i32); 3] = [("CLD", 17), ("IOT", 6), ("POLL", 29)];

/// A signal that Linux has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

impl Signal {
    /// SIGTERM.
    pub const TERM: Self = Self(15);
    /// SIGKILL.
    pub const KILL: Self = Self(9);

    /// A signal by number; `None` unless it is 1 to 64.
    pub fn new(number: i32) -> Option<Self> {
        (1..=RTMAX).contains(&number).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Reads `SIGTERM`, `term`, `15`, `RTMIN`, `SIGRTMIN+3` or `RTMAX-2`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::new(text.parse().ok()?);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(offset) = name.strip_prefix("RTMIN") {
            return real_time(RTMIN, offset, '+', 1);
        }
        if let Some(offset) = name.strip_prefix("RTMAX") {
            return real_time(RTMAX, offset, '-', -1);
        }
        let alias = ALIASES
            .iter()
            .find(|(alias, _)| *alias == name)
            .map(|(_, number)| *number);
        let number = alias.or_else(|| {
            NAMES
                .iter()
                .position(|known| *known == name)
                .map(|at| at as i32 + 1)
        });
        number.map(Self)
    }

    /// The signal of a CRI enumeration value; `None` for `SIGNAL_RUNTIME_DEFAULT` and for a value
    /// that this version does not know.
    pub fn from_cri(value: i32) -> Option<Self> {
        let name = cri::Signal::try_from(value).ok()?.as_str_name();
        let name = name.strip_prefix("SIGNAL_").unwrap_or(name);
        Self::parse(&name.replace("PLUS", "+").replace("MINUS", "-"))
    }

    /// The CRI enumeration value; `SIGNAL_RUNTIME_DEFAULT` for 32 and 33, which it lacks.
    pub fn to_cri(self) -> i32 {
        let found =
            (1..=cri::Signal::Sigrtmax as i32).find(|value| Self::from_cri(*value) == Some(self));
        found.unwrap_or_default()
    }
}

fn real_time(base: i32, offset: &str, sign: char, direction: i32) -> Option<Signal> {
    if offset.is_empty() {
        return Some(Signal(base));
    }
    let digits = offset.strip_prefix(sign)?;
    let offset = digits
        .parse::<u8>()
        .ok()
        .filter(|_| !digits.starts_with('+'))?;
    let number = base + direction * i32::from(offset);
    (RTMIN..=RTMAX).contains(&number).then_some(Signal(number))
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            RTMAX => write!(f, "SIGRTMAX"),
            RTMIN => write!(f, "SIGRTMIN"),
            number @ RTMIN.. => write!(f, "SIGRTMIN+{}", number - RTMIN),
            number => match NAMES.get(number as usize - 1) {
                Some(name) => write!(f, "SIG{name}"),
                None => write!(f, "{number}"),
            },
        }
    }
}

/// The signal that asks a container to stop: the request's, else the image's, else SIGTERM.
pub fn stop_signal(config: &ContainerConfig, image: &ImageConfig) -> Result<Signal, SpecError> {
    if config.stop_signal != cri::Signal::RuntimeDefault as i32 {
        return Signal::from_cri(config.stop_signal).ok_or_else(|| {
            let reason = format!("{} is not a signal of the CRI", config.stop_signal);
            SpecError::invalid("stop_signal", reason)
        });
    }
    match image.stop_signal.as_str() {
        "" => Ok(Signal::TERM),
        text => Signal::parse(text).ok_or_else(|| {
            SpecError::invalid("image stop signal", format!("{text:?} is not a signal"))
        }),
    }
}

#[cfg(test)]
mod tests;
