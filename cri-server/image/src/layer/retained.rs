//! Paths that an extraction must remember to its end, and what they may cost.
//!
//! An archive compresses well: a few megabytes of it can name millions of long paths. So what is
//! remembered of them is counted in bytes, and every question about them is a look-up in a sorted
//! map.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::attributes::Later;
use super::error::LayerError;
use super::place::to_path;

/// Most bytes that are remembered of one layer's paths. Half a million directories fit, ten times
/// as many as the largest images have.
const MAX_BYTES: usize = 64 << 20;
/// What a path costs besides its own length: its attributes and its place in a map.
const EACH: usize = 64;

/// What is remembered of an archive.
#[derive(Debug, Default)]
pub(super) struct Retained {
    /// Attributes that directories get at the end, by path.
    later: BTreeMap<Vec<u8>, (u64, Later)>,
    implied: BTreeSet<PathBuf>,
    links: BTreeMap<PathBuf, PathBuf>,
    bytes: usize,
    next: u64,
}

impl Retained {
    /// A directory's attributes are to be set at the end, instead of what was said before.
    pub(super) fn later(&mut self, path: &[u8], later: Later) -> Result<(), LayerError> {
        if !self.later.contains_key(path) {
            self.charge(path.len())?;
        }
        self.next += 1;
        self.later.insert(path.to_vec(), (self.next, later));
        Ok(())
    }

    /// A directory was made though no entry has asked for it so far.
    pub(super) fn imply(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.charge(path.len())?;
        self.implied.insert(to_path(path));
        Ok(())
    }

    /// An entry asks for a directory.
    pub(super) fn has_entry(&mut self, path: &[u8]) {
        self.implied.remove(&to_path(path));
    }

    /// A hard link whose target is not in this layer. The target may be such a link itself.
    pub(super) fn link(&mut self, link: &[u8], target: &[u8]) -> Result<(), LayerError> {
        let target = to_path(target);
        let target = self.links.get(&target).cloned().unwrap_or(target);
        self.charge(link.len() + target.as_os_str().len())?;
        self.links.insert(to_path(link), target);
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), LayerError> {
        self.bytes += bytes + EACH;
        if self.bytes > MAX_BYTES {
            return Err(LayerError::Limit {
                limit: MAX_BYTES as u64,
                unit: "bytes of names",
            });
        }
        Ok(())
    }

    /// The attributes of directories in the order in which they were said: two paths may lead to
    /// one directory.
    pub(super) fn take_later(&mut self) -> Vec<(Vec<u8>, Later)> {
        let mut all: Vec<_> = std::mem::take(&mut self.later).into_iter().collect();
        all.sort_unstable_by_key(|(_, (order, _))| *order);
        all.into_iter()
            .map(|(path, (_, later))| (path, later))
            .collect()
    }

    /// What grafting must know: directories without an entry and links to lower layers.
    pub(super) fn into_graft(self) -> (BTreeSet<PathBuf>, BTreeMap<PathBuf, PathBuf>) {
        (self.implied, self.links)
    }
}

/// Directories that were moved, and where to.
#[derive(Debug, Default)]
pub(super) struct Moved(BTreeMap<PathBuf, PathBuf>);

impl Moved {
    /// A directory has moved, and nothing above it has.
    pub(super) fn insert(&mut self, from: PathBuf, to: PathBuf) {
        self.0.insert(from, to);
    }

    /// Where a path is now; `None` when it has not moved.
    ///
    /// No moved directory is within another. So the one that `path` is within, if any, is the last
    /// that is not after it: whatever sorts between a directory and its content is its content, too.
    pub(super) fn follow(&self, path: &Path) -> Option<PathBuf> {
        let not_after = (Bound::Unbounded, Bound::Included(path));
        let (from, to) = self.0.range::<Path, _>(not_after).next_back()?;
        let rest = path.strip_prefix(from).ok()?;
        Some(if rest.as_os_str().is_empty() {
            to.clone()
        } else {
            to.join(rest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_remembered_is_limited_in_bytes() {
        let mut retained = Retained::default();
        let path = |n: usize| format!("{n:04096}").into_bytes();
        let fitting = MAX_BYTES / (4096 + EACH);
        for n in 0..fitting {
            retained.imply(&path(n)).unwrap();
        }
        let error = retained.link(&path(0), &path(1)).unwrap_err();
        assert!(
            matches!(error, LayerError::Limit { limit, .. } if limit == MAX_BYTES as u64),
            "{error}"
        );
    }

    #[test]
    fn an_entry_that_comes_again_costs_nothing() {
        let mut retained = Retained::default();
        for _ in 0..3 * MAX_BYTES / 4096 {
            let path = vec![b'a'; 4096];
            retained.later(&path, Later::implied()).unwrap();
        }
        assert_eq!(retained.take_later().len(), 1);
    }

    #[test]
    fn attributes_are_set_in_the_order_of_the_archive() {
        let mut retained = Retained::default();
        for path in ["b", "a", "c", "b"] {
            retained.later(path.as_bytes(), Later::implied()).unwrap();
        }
        let order: Vec<_> = retained
            .take_later()
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(order, [b"a", b"c", b"b"]);
    }

    fn path() -> impl Strategy<Value = PathBuf> {
        // '-' sorts before '/', '0' after it: paths must be compared by component.
        proptest::collection::vec("[ab0-]{1,2}", 0..4).prop_map(|parts| parts.iter().collect())
    }

    proptest! {
        #[test]
        fn moved_directories_are_found_as_in_a_list(
            mut from in proptest::collection::vec(path(), 0..12),
            asked in proptest::collection::vec(path(), 1..12),
        ) {
            // As graft goes through them: parents first, and nothing below what has moved.
            from.sort();
            let (mut list, mut map) = (Vec::<(PathBuf, PathBuf)>::new(), Moved::default());
            for (n, from) in from.into_iter().enumerate() {
                let within = list.iter().any(|(moved, _)| from.starts_with(moved));
                prop_assert_eq!(map.follow(&from).is_some(), within);
                if !within {
                    let to = PathBuf::from(format!("to/{n}"));
                    list.push((from.clone(), to.clone()));
                    map.insert(from, to);
                }
            }
            for path in asked {
                let listed = list
                    .iter()
                    .find_map(|(from, to)| path.strip_prefix(from).ok().map(|rest| to.join(rest)));
                prop_assert_eq!(map.follow(&path), listed);
            }
        }
    }
}
