//! What on this host is of the daemon with these directories.
//!
//! Cgroups and named network namespaces are the host's, and a second daemon, with other
//! directories, has its own among them: their names carry an id and not whose it is. An id is ours
//! when something below our root is called by it. That is so for as long as anything of a pod or a
//! container is left: a record is made before what it names and removed after it, one that cannot
//! be read is put aside under its name, and snapshots, exit records and the cache of networks are
//! named by the same ids. Who deletes all of that by hand is left with cgroups and namespaces that
//! nobody knows until the next boot; `skiffctl wipe --unrecorded` removes them.

use std::collections::BTreeSet;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::id::Id;
use crate::layout::{Layout, NETNS_PREFIX};

/// The ids of a daemon's pods and containers, past ones included that have left something.
#[derive(Debug, Default)]
pub struct Own(BTreeSet<Id>);

impl Own {
    /// Looks below a root. A directory that is not there names nothing; one that cannot be read is
    /// an error.
    pub fn of(layout: &Layout) -> Result<Self, (io::Error, PathBuf)> {
        let mut own = Self::default();
        let dirs = [
            layout.pods(),
            layout.containers(),
            layout.quarantine(),
            layout.all_pod_files(),
            layout.root.join("snapshots"),
            layout.root.join("cni"),
        ];
        for dir in dirs {
            own.add(&dir).map_err(|error| (error, dir))?;
        }
        Ok(own)
    }

    /// Whether a pod or container is ours.
    pub fn has(&self, id: &Id) -> bool {
        self.0.contains(id)
    }

    /// Whether a path is the name of the network namespace of a pod of ours.
    pub fn has_netns(&self, path: &Path) -> bool {
        let Some(short) = netns_of(path) else {
            return false;
        };
        let from = (Bound::Included(short), Bound::Unbounded);
        let mut from = self.0.range::<str, _>(from);
        from.next().is_some_and(|id| id.short() == short)
    }

    fn add(&mut self, dir: &Path) -> io::Result<()> {
        let entries = match std::fs::read_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let stem = name.to_str().and_then(|name| name.split('.').next());
            self.0.extend(stem.and_then(Id::parse));
        }
        Ok(())
    }
}

/// The beginning of the pod's id in the name of a network namespace; `None` when it is not a name
/// that a skiffd gives.
pub fn netns_of(path: &Path) -> Option<&str> {
    let short = path.file_name()?.to_str()?.strip_prefix(NETNS_PREFIX)?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (short.len() == 12 && short.bytes().all(hex)).then_some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_left_of_a_pod_says_that_it_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("root"), dir.path().join("state"));
        assert!(!Own::of(&layout).unwrap().has(&Id::random().unwrap()));
        let id = || Id::random().unwrap();
        let ids = [id(), id(), id(), id(), id(), id(), id()];
        let left = [
            layout.pod(&ids[0]),
            layout.container(&ids[1]),
            layout.container_exit(&ids[2]),
            layout.quarantine().join(format!("{}.json", ids[3])),
            layout.pod_files(&ids[4]),
            layout.root.join("snapshots").join(ids[5].as_str()),
            layout.root.join("cni").join(format!("{}.json", ids[6])),
        ];
        for path in &left {
            std::fs::create_dir_all(path).unwrap();
        }
        let own = Own::of(&layout).unwrap();
        for id in &ids {
            let netns = layout.netns(id);
            assert!(own.has(id) && own.has_netns(&netns), "{id}");
        }
        let other = id();
        assert!(!own.has(&other) && !own.has_netns(&layout.netns(&other)));
    }

    #[test]
    fn only_names_that_a_daemon_gives_are_of_a_pod() {
        let of = |name: &str| netns_of(&Path::new("/run/netns").join(name)).map(str::to_owned);
        assert_eq!(of("skiff-0123456789ab").as_deref(), Some("0123456789ab"));
        for other in [
            "skiff-test",
            "skiff-0123456789AB",
            "skiff-0123456789abc",
            "cni-0123456789ab",
            "skiff-",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
