//! Lengths of time, written for people.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time in whole milliseconds, written as numbers with units, largest first: `5m`,
/// `1h30m`, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u64);

/// Largest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Span {
    /// So many seconds.
    pub(crate) const fn seconds(number: u64) -> Self {
        Self(number * 1000)
    }

    /// The same as the standard library has it.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a time such as \"5m\" or \"1h30m\" (h, m, s, ms)");
        let mut units = UNITS.as_slice();
        let mut rest = text;
        let mut total: u64 = 0;
        loop {
            let split = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let (number, tail) = rest.split_at(split);
            let end = tail
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let number: u64 = number.parse().map_err(|_| bad())?;
            let at = units
                .iter()
                .position(|(name, _)| *name == unit)
                .ok_or_else(bad)?;
            let part = number.checked_mul(units[at].1);
            total = part
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| format!("{text:?} is too long"))?;
            units = &units[at + 1..];
            rest = tail;
            if rest.is_empty() {
                return Ok(Self(total));
            }
        }
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (name, factor) in UNITS {
            if rest >= factor {
                write!(f, "{}{name}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_come_largest_first_and_once() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1s5ms", 1005),
        ] {
            assert_eq!(
                text.parse::<Span>().unwrap().duration(),
                Duration::from_millis(millis)
            );
        }
        for bad in [
            "",
            "5",
            "m",
            "5 m",
            "-5m",
            "1.5h",
            "5m1h",
            "5m5m",
            "5d",
            "5M",
            "5124095576031h",
        ] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_the_same(millis: u64) {
            prop_assert_eq!(Span(millis).to_string().parse::<Span>(), Ok(Span(millis)));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<Span>();
        }
    }
}
