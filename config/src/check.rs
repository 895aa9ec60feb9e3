//! What a value must be, beyond its type: told where it is read, with file, line and key.

use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::size::Size;
use crate::span::Span;

pub(crate) fn absolute_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    checked_absolute(path).map(Some).map_err(D::Error::custom)
}

pub(crate) fn empty_for_none<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.clone().unwrap_or_default().serialize(serializer)
}

pub(crate) fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    checked_absolute(PathBuf::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(crate) fn absolute_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<PathBuf>, D::Error> {
    let paths = Vec::<PathBuf>::deserialize(deserializer)?;
    paths
        .into_iter()
        .map(checked_absolute)
        .collect::<Result<_, _>>()
        .map_err(D::Error::custom)
}

pub(crate) fn checked_absolute(path: PathBuf) -> Result<PathBuf, String> {
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!(
            "{:?} is not an absolute path",
            path.display().to_string()
        ))
    }
}

pub(crate) fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    match Span::deserialize(deserializer)? {
        span if span == Span::seconds(0) => Err(D::Error::custom("must be longer than 0s")),
        span => Ok(span),
    }
}

pub(crate) fn a_second_or_more<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Span, D::Error> {
    match Span::deserialize(deserializer)? {
        span if span < Span::seconds(1) => Err(D::Error::custom("must be at least 1s")),
        span => Ok(span),
    }
}

pub(crate) fn some_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    match Size::deserialize(deserializer)? {
        size if size.bytes() == 0 => Err(D::Error::custom("must be more than 0")),
        size => Ok(size),
    }
}
