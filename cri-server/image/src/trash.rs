//! Deletes directory trees in the background, and tells when that is done.
//!
//! A tree is first renamed into a trash directory on its own file system, which takes it out of
//! sight at once; one thread then deletes it. What a crash leaves there is deleted at the next
//! start. The trees are foreign: a container may nest directories deeper than any stack, so
//! subdirectories are moved up to the trash directory instead of being descended into.

use std::ffi::CStr;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use tokio::sync::oneshot;

use crate::error::StoreError;

/// Names in a trash directory have to differ within one run, and from what earlier ones left: a pid
/// may come again after a reboot.
static NEXT: AtomicU64 = AtomicU64::new(0);
static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));

/// The deleting thread's entrance. The thread ends when all clones are gone and all is deleted.
#[derive(Debug, Clone)]
pub(crate) struct Trash {
    sender: mpsc::Sender<Chore>,
}

#[derive(Debug)]
enum Chore {
    Delete(PathBuf),
    /// Says that what was asked before is done.
    Tell(oneshot::Sender<()>),
}

impl Trash {
    /// Starts the thread.
    pub(crate) fn start() -> Result<Self, StoreError> {
        let (sender, receiver) = mpsc::channel();
        std::thread::Builder::new()
            .name("trash".into())
            .spawn(move || receiver.into_iter().for_each(Chore::run))
            .map_err(StoreError::io("start a thread for", Path::new("trash")))?;
        Ok(Self { sender })
    }

    /// Takes `path` out of sight into `trash` and deletes it later. A missing path is fine.
    pub(crate) fn discard(&self, path: &Path, trash: &Path) -> Result<(), StoreError> {
        let target = fresh(trash);
        match std::fs::rename(path, &target) {
            Ok(()) => {
                self.delete(target);
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(StoreError::io("move to the trash", path)(e)),
        }
    }

    /// Deletes what earlier runs left in `trash`.
    pub(crate) fn sweep(&self, trash: &Path) -> Result<(), StoreError> {
        for entry in std::fs::read_dir(trash).map_err(StoreError::io("read", trash))? {
            self.delete(entry.map_err(StoreError::io("read", trash))?.path());
        }
        Ok(())
    }

    /// Waits until what was discarded before is deleted, as far as that can be done.
    pub(crate) async fn emptied(&self) {
        let (done, told) = oneshot::channel();
        if self.sender.send(Chore::Tell(done)).is_ok() {
            // a thread that has ended deletes nothing more
            let _ = told.await;
        }
    }

    fn delete(&self, path: PathBuf) {
        if let Err(mpsc::SendError(chore)) = self.sender.send(Chore::Delete(path)) {
            tracing::warn!(?chore, "deletion is put off until the next start");
        }
    }
}

impl Chore {
    fn run(self) {
        match self {
            Self::Delete(path) => delete_logged(&path),
            // whoever asked may have gone
            Self::Tell(done) => drop(done.send(())),
        }
    }
}

fn fresh(trash: &Path) -> PathBuf {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    trash.join(format!("{:016x}-{n}", *RUN))
}

fn delete_logged(path: &Path) {
    if let Err(e) = delete(path) {
        tracing::warn!(path = %path.display(), error = %e, "cannot delete");
    }
}

/// Deletes `path`, which must be an entry of a trash directory, as far as that can be done, and
/// tells what went wrong first.
fn delete(path: &Path) -> io::Result<()> {
    let trash = path.parent().unwrap_or(Path::new("."));
    let mut queue = vec![path.to_owned()];
    let mut outcome = Ok(());
    while let Some(next) = queue.pop() {
        outcome = outcome.and(delete_one(&next, trash, &mut queue));
    }
    outcome
}

/// Deletes a file, or a directory whose subdirectories go to `trash` and `queue`.
fn delete_one(path: &Path, trash: &Path, queue: &mut Vec<PathBuf>) -> io::Result<()> {
    match unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // EPERM is what POSIX has unlink answer for a directory, EISDIR what Linux does.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    let emptied = empty(path, trash, queue);
    let emptied = emptied.and_then(|()| Ok(unlinkat(CWD, path, AtFlags::REMOVEDIR)?));
    match emptied {
        // Another store on the same directory may be deleting what an earlier run left, too.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Unlinks the files of `dir` and moves its subdirectories up into `trash` and `queue`.
fn empty(dir: &Path, trash: &Path, queue: &mut Vec<PathBuf>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(CWD, dir, flags, Mode::empty())?;
    let mut outcome = Ok(());
    let dot_or_dotdot = |name: &CStr| matches!(name.to_bytes(), b"." | b"..");
    for entry in Dir::read_from(&fd)? {
        let entry = entry?;
        let name = entry.file_name();
        if dot_or_dotdot(name) {
            continue;
        }
        if entry.file_type() != FileType::Directory
            && unlinkat(&fd, name, AtFlags::empty()) != Err(Errno::ISDIR)
        {
            continue;
        }
        if unlinkat(&fd, name, AtFlags::REMOVEDIR).is_err() {
            let target = fresh(trash);
            match renameat(&fd, name, CWD, &target) {
                Ok(()) => queue.push(target),
                Err(Errno::NOENT) => {}
                Err(e) => outcome = outcome.and(Err(e.into())),
            }
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{IFlags, ioctl_setflags};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn trash_with(build: impl FnOnce(&Path)) -> (tempfile::TempDir, PathBuf) {
        let area = tempfile::tempdir().unwrap();
        let trash = area.path().join("trash");
        std::fs::create_dir_all(trash.join("x")).unwrap();
        build(&trash.join("x"));
        (area, trash)
    }

    fn is_empty(dir: &Path) -> bool {
        std::fs::read_dir(dir).unwrap().next().is_none()
    }

    #[test]
    fn deletes_a_tree_and_not_what_its_links_name() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "x").unwrap();
        let (_area, trash) = trash_with(|x| {
            std::fs::create_dir_all(x.join("a/b/c")).unwrap();
            std::fs::write(x.join("a/b/file"), "x").unwrap();
            symlink(outside.path(), x.join("a/link")).unwrap();
        });
        delete(&trash.join("x")).unwrap();
        assert!(is_empty(&trash));
        assert!(outside.path().join("kept").exists());
    }

    /// Lets nobody delete what is in `dir`; `false` where that cannot be had.
    fn hold(dir: &Path, hold: bool) -> bool {
        if !rustix::process::geteuid().is_root() {
            let mode = if hold { 0 } else { 0o700 };
            return std::fs::set_permissions(dir, PermissionsExt::from_mode(mode)).is_ok();
        }
        let flags = if hold {
            IFlags::IMMUTABLE
        } else {
            IFlags::empty()
        };
        openat(CWD, dir, OFlags::RDONLY, Mode::empty())
            .and_then(|dir| ioctl_setflags(dir, flags))
            .is_ok()
    }

    #[test]
    fn what_cannot_be_deleted_keeps_nothing_else() {
        let (_area, trash) = trash_with(|x| {
            for dir in ["a", "b", "c", "d", "e"] {
                std::fs::create_dir_all(x.join(dir).join("below")).unwrap();
                std::fs::write(x.join(dir).join("file"), "x").unwrap();
            }
        });
        let held = trash.join("x/c");
        if !hold(&held, true) {
            return;
        }
        let error = delete(&trash.join("x"));
        assert!(hold(&held, false));
        error.unwrap_err();
        let names = |dir: &Path| -> Vec<_> {
            let entries = std::fs::read_dir(dir).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        };
        assert_eq!(names(&trash), ["x"]);
        assert_eq!(names(&trash.join("x")), ["c"]);
        delete(&trash.join("x")).unwrap();
        assert!(is_empty(&trash));
    }

    #[test]
    fn a_name_is_not_met_again_after_a_reboot() {
        let name = fresh(Path::new("/trash"));
        let name = name.file_name().unwrap().to_str().unwrap().to_owned();
        let (run, _) = name.rsplit_once('-').unwrap();
        assert!(run.len() >= 16, "{name} has only a pid in it");
    }

    #[test]
    fn deletes_nesting_deeper_than_a_path_can_name() {
        let (_area, trash) = trash_with(|x| {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let mut at = openat(CWD, x, flags, Mode::empty()).unwrap();
            for _ in 0..5_000 {
                rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
                at = openat(&at, "d", flags, Mode::empty()).unwrap();
            }
        });
        delete(&trash.join("x")).unwrap();
        assert!(is_empty(&trash));
    }

    #[test]
    fn two_that_delete_one_tree_leave_nothing() {
        for _ in 0..20 {
            let (_area, trash) = trash_with(|x| {
                for i in 0..20 {
                    std::fs::create_dir_all(x.join(format!("{i}/a/b/c"))).unwrap();
                    std::fs::write(x.join(format!("{i}/a/file")), "x").unwrap();
                }
            });
            let all = || {
                while !is_empty(&trash) {
                    for entry in std::fs::read_dir(&trash).unwrap() {
                        delete(&entry.unwrap().path()).unwrap();
                    }
                }
            };
            std::thread::scope(|scope| {
                scope.spawn(all);
                scope.spawn(all);
            });
            assert!(is_empty(&trash));
        }
    }

    #[test]
    fn discard_hides_at_once_and_forgives_absence() {
        let (area, trash) = trash_with(|_| {});
        let victim = area.path().join("victim");
        std::fs::create_dir(&victim).unwrap();
        let thread = Trash::start().unwrap();
        thread.discard(&victim, &trash).unwrap();
        assert!(!victim.exists());
        thread.discard(&victim, &trash).unwrap();
    }

    /// The kubelet looks for room on the disk right after it has removed images, and evicts pods
    /// when there is none.
    #[tokio::test]
    async fn emptied_waits_until_all_is_deleted() {
        let (area, trash) = trash_with(|x| {
            for i in 0..1000 {
                std::fs::write(x.join(i.to_string()), "").unwrap();
            }
        });
        let thread = Trash::start().unwrap();
        let victim = area.path().join("victim");
        std::fs::create_dir(&victim).unwrap();
        thread.sweep(&trash).unwrap();
        thread.discard(&victim, &trash).unwrap();
        thread.emptied().await;
        assert!(is_empty(&trash));
    }
}
