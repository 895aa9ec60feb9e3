//! The simplest formats of cgroup files (cgroup-v2.rst, "Format"): single values and lines of a
//! key and a value.

/// The keys and values of a flat keyed file. Lines that have no number are passed over.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.parse().ok()?))
    })
}

/// The value of a key.
pub(crate) fn get(text: &str, key: &str) -> Option<u64> {
    pairs(text).find_map(|(name, value)| (name == key).then_some(value))
}

/// The only value of a file.
pub(crate) fn single(text: &str) -> Option<u64> {
    text.trim_end().parse().ok()
}

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// None: the file says `max`.
    Max,
    /// So much.
    At(u64),
}

impl Limit {
    /// The only value of a file of a limit.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim_end() {
            "max" => Some(Self::Max),
            number => number.parse().ok().map(Self::At),
        }
    }

    /// What is left of it when so much is used; `None` without a limit.
    pub fn left(self, used: u64) -> Option<u64> {
        match self {
            Self::Max => None,
            Self::At(limit) => Some(limit.saturating_sub(used)),
        }
    }

    /// The number, 0 standing for none, as cAdvisor has it.
    pub fn or_zero(self) -> u64 {
        match self {
            Self::Max => 0,
            Self::At(limit) => limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_whole_words_and_values_whole_numbers() {
        let text = "oom 1\noom_kill 2\nbad x\nno-value\n";
        assert_eq!(get(text, "oom"), Some(1));
        assert_eq!(get(text, "oom_kill"), Some(2));
        assert_eq!(get(text, "oo"), None);
        assert_eq!(pairs(text).count(), 2);
        assert_eq!(single("4096\n"), Some(4096));
        assert_eq!(single("max\n"), None);
    }

    #[test]
    fn a_limit_may_be_none() {
        assert_eq!(Limit::parse("max\n"), Some(Limit::Max));
        assert_eq!(Limit::parse("7"), Some(Limit::At(7)));
        assert_eq!(Limit::parse("-1"), None);
        assert_eq!(Limit::At(7).left(9), Some(0));
        assert_eq!(Limit::Max.left(9), None);
        assert_eq!((Limit::Max.or_zero(), Limit::At(3).or_zero()), (0, 3));
    }
}
