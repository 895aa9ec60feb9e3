//! Paths inside a container's root: resolved there and nowhere else, whatever symbolic links the
//! image or a volume holds.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

use crate::Error;
use crate::error::Doing;

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;

/// What to make where a mount point is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// Opens what is at `path` inside `root` (`O_PATH`, links followed inside of the root, magic
/// links of /proc refused).
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    open_as(root, path, OFlags::PATH)
}

/// Like [`open`], with flags.
pub(crate) fn open_as(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        // A rename or mount elsewhere during the walk makes the kernel give up on proving that
        // ".." stayed inside.
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Like [`open`], refusing symbolic links anywhere in the path.
pub(crate) fn open_strictly(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )
}

/// Opens what is at `path` inside `root`, making it and missing directories on the way
/// (mode 755, files 644) when there is nothing.
pub(crate) fn open_or_create(
    root: BorrowedFd<'_>,
    path: &Path,
    kind: impl FnOnce() -> Result<Kind, Error>,
) -> Result<OwnedFd, Error> {
    match open(root, path) {
        Err(Errno::NOENT) => {
            let kind = kind()?;
            create_last(root, path, kind)
                .or_else(|_| create(root, path, kind))
                .doing(|| format!("make {} in the container", path.display()))
        }
        done => done.doing(|| format!("open {} in the container", path.display())),
    }
}

/// Like [`open_or_create`] where there is no symbolic link on the way and at most the last name
/// is missing; `None` everywhere else.
pub(crate) fn open_or_create_straight(
    root: BorrowedFd<'_>,
    path: &Path,
    kind: impl FnOnce() -> Result<Kind, Error>,
) -> Result<Option<OwnedFd>, Error> {
    match open_strictly(root, path) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Ok(None);
            };
            let Ok(parent) = open_strictly(root, parent) else {
                return Ok(None);
            };
            Ok(create_in(parent.as_fd(), name, kind()?).ok())
        }
        Err(_) => Ok(None),
    }
}

/// The common case of [`create`]: only the last name is missing, and no link in its place.
fn create_last(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> rustix::io::Result<OwnedFd> {
    let name = path.file_name().ok_or(Errno::NOENT)?;
    let parent = open_as(root, path.parent().ok_or(Errno::NOENT)?, OFlags::PATH)?;
    create_in(parent.as_fd(), name, kind)
}

fn create_in(parent: BorrowedFd<'_>, name: &OsStr, kind: Kind) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match kind {
        Kind::File => {
            // For reading: a writer would keep a root file system from becoming read-only.
            let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY;
            openat(parent, name, flags, Mode::from_raw_mode(0o644))
        }
        Kind::Directory => {
            mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            openat(parent, name, flags | OFlags::PATH, Mode::empty())
        }
    }
}

/// Walks `path` name by name, so that a link whose target is missing leads to the target being
/// made: an image's `/etc/resolv.conf` often points into an empty /run.
fn create(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> rustix::io::Result<OwnedFd> {
    let mut todo: VecDeque<OsString> = VecDeque::new();
    prepend(&mut todo, path);
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == OsStr::new("..") {
            at.pop();
            continue;
        }
        let parent = open_parent(root, &at)?;
        match statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = readlinkat(&parent, &name, Vec::new())?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    at.clear();
                }
                prepend(&mut todo, &target);
                continue;
            }
            Ok(_) => {}
            Err(Errno::NOENT) => {
                let kind = if todo.is_empty() {
                    kind
                } else {
                    Kind::Directory
                };
                create_in(parent.as_fd(), &name, kind)?;
            }
            Err(e) => return Err(e),
        }
        at.push(name);
    }
    open_parent(root, &at)
}

fn open_parent(root: BorrowedFd<'_>, at: &Path) -> rustix::io::Result<OwnedFd> {
    if at.as_os_str().is_empty() {
        open(root, Path::new("."))
    } else {
        open(root, at)
    }
}

fn prepend(todo: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => todo.push_front(name.to_owned()),
            Component::ParentDir => todo.push_front("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
}

/// Is this a directory?
pub(crate) fn kind_of(fd: impl AsFd) -> rustix::io::Result<Kind> {
    let stat = rustix::fs::fstat(fd)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        _ => Kind::File,
    })
}

/// A path by which the kernel finds what `fd` is, for calls that take no descriptor. Good as
/// long as the caller's own /proc is in place.
pub(crate) fn of_fd(fd: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = rustix::fs::open(dir.path().join("root"), flags, Mode::empty()).unwrap();
        (dir, fd)
    }

    fn make(root: &OwnedFd, path: &str, kind: Kind) -> Result<OwnedFd, Error> {
        open_or_create(root.as_fd(), Path::new(path), || Ok(kind))
    }

    #[test]
    fn missing_directories_and_files_are_made() {
        let (dir, root) = root();
        make(&root, "/a/b/c", Kind::Directory).unwrap();
        make(&root, "/a/b/f", Kind::File).unwrap();
        assert!(dir.path().join("root/a/b/c").is_dir());
        assert!(dir.path().join("root/a/b/f").is_file());
        make(&root, "/a/b/f", Kind::File).unwrap();
    }

    #[test]
    fn absolute_link_stays_inside() {
        let (dir, root) = root();
        symlink("/etc", dir.path().join("root/link")).unwrap();
        make(&root, "/link/made", Kind::File).unwrap();
        assert!(dir.path().join("root/etc/made").is_file());
        assert!(!Path::new("/etc/made").exists());
    }

    #[test]
    fn dangling_link_leads_to_its_target() {
        let (dir, root) = root();
        fs::create_dir(dir.path().join("root/etc")).unwrap();
        symlink(
            "../run/resolve/stub",
            dir.path().join("root/etc/resolv.conf"),
        )
        .unwrap();
        make(&root, "/etc/resolv.conf", Kind::File).unwrap();
        assert!(dir.path().join("root/run/resolve/stub").is_file());
    }

    #[test]
    fn dots_do_not_lead_out() {
        let (dir, root) = root();
        symlink("../../../../..", dir.path().join("root/up")).unwrap();
        make(&root, "/up/outside", Kind::Directory).unwrap();
        assert!(dir.path().join("root/outside").is_dir());
        assert!(!dir.path().join("outside").exists());
        make(&root, "../../x/../y", Kind::Directory).unwrap();
        assert!(dir.path().join("root/y").is_dir());
    }

    #[test]
    fn link_loops_end() {
        let (dir, root) = root();
        symlink("b", dir.path().join("root/a")).unwrap();
        symlink("a", dir.path().join("root/b")).unwrap();
        let error = make(&root, "/a/x", Kind::File).unwrap_err();
        assert!(error.to_string().contains("/a/x"), "{error}");
    }

    #[test]
    fn file_in_the_way_is_an_error_with_the_path() {
        let (dir, root) = root();
        fs::write(dir.path().join("root/file"), "").unwrap();
        let error = make(&root, "/file/x", Kind::Directory).unwrap_err();
        assert!(error.to_string().contains("/file/x"), "{error}");
    }

    #[test]
    fn magic_links_are_refused() {
        let (_dir, _) = root();
        let host = rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
        let got = open(host.as_fd(), Path::new("/proc/self/root/etc"));
        assert_eq!(got.unwrap_err(), Errno::LOOP);
    }
}
