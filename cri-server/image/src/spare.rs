//! Directories for the snapshots of containers to come.
//!
//! Making the three directories of a snapshot takes longer than all else that a file system has to
//! do for a container's start; renaming one that is there takes a twentieth of it. So a few are made
//! ahead, by a thread, under names that stay the same: what a daemon that died left is completed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::StoreError;

/// How many are kept: containers are made one after the other, also those of one pod.
const COUNT: usize = 2;
/// How long the making of another waits while there is one: the container that took the last is
/// being started meanwhile, and has better use for processor and disk.
const PAUSE: Duration = Duration::from_millis(100);
/// The container's files.
pub(crate) const UPPER: &str = "upper";
/// Overlayfs's own.
pub(crate) const WORK: &str = "work";

/// What is made ahead. The thread ends with it.
#[derive(Debug)]
pub(crate) struct Spares {
    dir: PathBuf,
    ready: Arc<Mutex<Vec<usize>>>,
    wanted: mpsc::Sender<usize>,
}

impl Spares {
    /// Starts making them in `dir`, which must be on the file system of the snapshots.
    pub(crate) fn start(dir: PathBuf) -> Result<Self, StoreError> {
        fs::create_dir_all(&dir).map_err(StoreError::io("create directory", &dir))?;
        let ready = Arc::new(Mutex::new(Vec::new()));
        let (wanted, requests) = mpsc::channel();
        let (all, place) = (Arc::clone(&ready), dir.clone());
        std::thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || keep(&place, &all, requests))
            .map_err(StoreError::io("start a thread for", &dir))?;
        let spares = Self { dir, ready, wanted };
        (0..COUNT).for_each(|slot| spares.want(slot));
        Ok(spares)
    }

    /// Moves one to `to`. `Ok(false)`: there is none at the moment.
    pub(crate) fn take(&self, to: &Path) -> io::Result<bool> {
        let slot = lock(&self.ready).pop();
        let Some(slot) = slot else { return Ok(false) };
        let moved = fs::rename(path(&self.dir, slot), to);
        self.want(slot);
        moved.map(|()| true)
    }

    fn want(&self, slot: usize) {
        // Without its thread there are no spares, and snapshots are made when they are needed.
        let _ = self.wanted.send(slot);
    }
}

/// Makes what a snapshot is: two directories in one.
pub(crate) fn make(base: &Path) -> io::Result<()> {
    for name in ["", UPPER, WORK] {
        match fs::create_dir(base.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
    }
    Ok(())
}

/// Makes what is wanted; what cannot be made now is tried again with the next.
fn keep(dir: &Path, ready: &Mutex<Vec<usize>>, wanted: mpsc::Receiver<usize>) {
    let mut missing = Vec::new();
    for slot in wanted {
        if !lock(ready).is_empty() {
            std::thread::sleep(PAUSE);
        }
        missing.push(slot);
        missing.retain(|slot| match make(&path(dir, *slot)) {
            Ok(()) => {
                lock(ready).push(*slot);
                false
            }
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "no snapshot can be made ahead");
                true
            }
        });
    }
}

fn path(dir: &Path, slot: usize) -> PathBuf {
    dir.join(slot.to_string())
}

fn lock(ready: &Mutex<Vec<usize>>) -> std::sync::MutexGuard<'_, Vec<usize>> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn take(spares: &Spares, to: &Path) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !spares.take(to).unwrap() {
            assert!(Instant::now() < deadline, "none is made");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn more_are_taken_than_there_are_slots() {
        let area = tempfile::tempdir().unwrap();
        let spares = Spares::start(area.path().join("spare")).unwrap();
        for name in ["a", "b", "c", "d", "e"] {
            let to = area.path().join(name);
            take(&spares, &to);
            assert!(to.join(UPPER).is_dir() && to.join(WORK).is_dir());
        }
    }

    #[test]
    fn half_a_spare_of_an_earlier_daemon_is_completed() {
        let area = tempfile::tempdir().unwrap();
        let dir = area.path().join("spare");
        for slot in 0..COUNT {
            fs::create_dir_all(path(&dir, slot).join(UPPER)).unwrap();
        }
        let spares = Spares::start(dir).unwrap();
        let to = area.path().join("a");
        take(&spares, &to);
        assert!(to.join(WORK).is_dir());
    }

    #[test]
    fn one_that_cannot_be_moved_is_not_lost() {
        let area = tempfile::tempdir().unwrap();
        let spares = Spares::start(area.path().join("spare")).unwrap();
        let taken = area.path().join("taken");
        take(&spares, &taken);
        for _ in 0..2 * COUNT {
            let deadline = Instant::now() + Duration::from_secs(10);
            // Not empty: it holds the two directories.
            while spares.take(&taken).is_ok() {
                assert!(Instant::now() < deadline, "a spare is lost");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        take(&spares, &area.path().join("free"));
    }
}
