//! Labels: `user:role:type` and, in a policy that has them, `:level`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::level::Level;

/// A label, which SELinux calls a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label {
    /// User of the policy.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type, of a process also called domain.
    pub kind: String,
    /// Level, where the policy has levels.
    pub level: Option<Level>,
}

/// A text that is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// It has too few parts.
    #[error("{0:?} is no label such as system_u:object_r:container_file_t:s0")]
    Parts(String),
    /// A part cannot be a name.
    #[error("{0:?} is no name of a user, role or type")]
    Word(String),
    /// The level cannot be one.
    #[error(transparent)]
    Level(#[from] super::level::LevelError),
}

/// A name begins with a letter and goes on with letters, digits, `_`, `.` and `-`.
pub(super) fn check_word(text: &str) -> Result<(), LabelError> {
    let goes_on = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_name = text.starts_with(|first: char| first.is_ascii_alphabetic());
    if is_name && text.bytes().all(goes_on) {
        Ok(())
    } else {
        Err(LabelError::Word(text.to_owned()))
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let mut parts = text.splitn(4, ':');
        let mut word = || {
            let word = parts.next();
            let word = word.ok_or_else(|| LabelError::Parts(text.to_owned()))?;
            check_word(word).map(|()| word.to_owned())
        };
        Ok(Self {
            user: word()?,
            role: word()?,
            kind: word()?,
            level: parts.next().map(str::parse).transpose()?,
        })
    }
}

impl TryFrom<String> for Label {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.to_string()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        match &self.level {
            Some(level) => write!(f, ":{level}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_with_and_without_a_level() {
        for text in [
            "system_u:system_r:container_t:s0:c1,c2",
            "system_u:object_r:container_file_t:s0-s0:c0.c1023",
            "u:r:t",
        ] {
            let label: Label = text.parse().unwrap();
            assert_eq!(label.to_string(), text);
        }
        let label: Label = "u:r:t:s0:c1".parse().unwrap();
        assert_eq!(
            (&*label.kind, label.level.unwrap().to_string()),
            ("t", "s0:c1".to_owned())
        );
    }

    #[test]
    fn what_is_no_label_is_refused_with_the_part() {
        for (text, part) in [
            ("", "\"\""),
            ("u:r", "\"u:r\""),
            ("u:r:t t", "\"t t\""),
            ("u:\"r:t", "\"\\\"r\""),
            ("u:r:9t", "\"9t\""),
            ("u:r:t:", "\"\""),
            ("u:r:t:c1", "\"c1\""),
        ] {
            let error = text.parse::<Label>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
