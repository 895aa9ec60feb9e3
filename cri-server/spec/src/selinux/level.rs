//! Levels: sensitivities with categories, `s0:c12,c700`, or a range of two, `s0-s0:c0.c1023`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Categories of the policies there are: c0 to c1023.
const CATEGORIES: u16 = 1024;

/// A level or a range of two, as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Level(String);

/// A text that is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no level such as s0:c1,c2")]
pub struct LevelError(String);

impl Level {
    /// A level of two categories.
    pub fn of_pair(sensitivity: &str, pair: Pair) -> Self {
        Self(format!("{sensitivity}:{pair}"))
    }

    /// Its sensitivity, of a range the lower one's.
    pub fn sensitivity(&self) -> &str {
        let end = self.0.find([':', '-']).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// Its categories, if they are two; of a range the higher one's.
    pub fn pair(&self) -> Option<Pair> {
        let high = self.0.rsplit('-').next()?;
        let (_, categories) = high.split_once(':')?;
        let mut all = BTreeSet::new();
        for (first, last) in categories.split(',').filter_map(span) {
            all.extend((first..=last).take(3));
        }
        let mut all = all.into_iter();
        match (all.next(), all.next(), all.next()) {
            (Some(low), Some(high), None) => Pair::new(low, high),
            _ => None,
        }
    }
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        let mut ends = text.split('-');
        let (low, high) = (ends.next().unwrap_or_default(), ends.next());
        if is_level(low) && high.is_none_or(is_level) && ends.next().is_none() {
            Ok(Self(text.to_owned()))
        } else {
            Err(LevelError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Level {
    type Error = LevelError;

    fn try_from(text: String) -> Result<Self, LevelError> {
        text.parse()
    }
}

impl From<Level> for String {
    fn from(level: Level) -> Self {
        level.0
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_level(text: &str) -> bool {
    let (sensitivity, categories) = match text.split_once(':') {
        Some((sensitivity, categories)) => (sensitivity, Some(categories)),
        None => (text, None),
    };
    let all = |categories: &str| categories.split(',').all(|one| span(one).is_some());
    number(sensitivity, 's').is_some() && categories.is_none_or(all)
}

/// `c3`, or `c3.c7` for all of them.
fn span(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('.').unwrap_or((text, text));
    let (first, last) = (number(first, 'c')?, number(last, 'c')?);
    (first <= last && last < CATEGORIES).then_some((first, last))
}

fn number(text: &str, letter: char) -> Option<u16> {
    let digits = text.strip_prefix(letter)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Two categories, by which pods are told from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    low: u16,
    high: u16,
}

impl Pair {
    /// How many numbers [`Self::numbered`] takes.
    pub const NUMBERS: u32 = CATEGORIES as u32 * CATEGORIES as u32;

    /// Of two different categories.
    pub fn new(one: u16, other: u16) -> Option<Self> {
        let (low, high) = (one.min(other), one.max(other));
        (low != high && high < CATEGORIES).then_some(Self { low, high })
    }

    /// The pair of a number, taken modulo [`Self::NUMBERS`]: each pair has two of them. `None`
    /// for those that would name one category twice.
    pub fn numbered(number: u32) -> Option<Self> {
        let size = u32::from(CATEGORIES);
        let part = |number: u32| u16::try_from(number % size).ok();
        Self::new(part(number / size)?, part(number)?)
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{},c{}", self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn levels_and_ranges_are_read() {
        for good in [
            "s0",
            "s0:c1,c2",
            "s15:c0.c1023",
            "s0-s0:c0.c1023",
            "s0-s15:c1.c3,c7",
        ] {
            assert_eq!(good.parse::<Level>().unwrap().to_string(), good);
        }
        for bad in [
            "", "s", "c1", "s0:", "s0:c", "s0:c1,", "s0:c2.c1", "s0:c1024", "s0-", "-s0",
            "s0-s1-s2", "s0:c1 ", "s0:c+1", "s0,c1", "s0:c1:c2", "S0",
        ] {
            let error = bad.parse::<Level>().unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_pair_is_found_however_it_is_written() {
        let pair = |text: &str| text.parse::<Level>().unwrap().pair();
        for text in [
            "s0:c7,c9",
            "s0:c9,c7",
            "s0:c9,c7,c9",
            "s0-s0:c7,c9",
            "s3:c7,c9",
        ] {
            assert_eq!(pair(text), Pair::new(7, 9), "{text}");
        }
        assert_eq!(pair("s0:c7.c8"), Pair::new(7, 8));
        for text in ["s0", "s0:c1", "s0:c1,c2,c3", "s0:c0.c1023", "s0:c1,c2-s0"] {
            assert_eq!(pair(text), None, "{text}");
        }
        let level = Level::of_pair("s0", Pair::new(9, 7).unwrap());
        assert_eq!(level.to_string(), "s0:c7,c9");
        assert_eq!(level.pair(), Pair::new(7, 9));
        assert_eq!(
            (
                level.sensitivity(),
                "s1-s2".parse::<Level>().unwrap().sensitivity()
            ),
            ("s0", "s1")
        );
    }

    #[test]
    fn every_pair_has_two_numbers() {
        let mut seen = BTreeMap::new();
        for pair in (0..Pair::NUMBERS).filter_map(Pair::numbered) {
            *seen.entry(pair).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 1024 * 1023 / 2);
        assert!(seen.values().all(|times| *times == 2));
        assert_eq!(Pair::numbered(Pair::NUMBERS + 5), Pair::numbered(5));
        assert_eq!(Pair::new(3, 3), None);
        assert_eq!(Pair::new(3, 1024), None);
    }
}
