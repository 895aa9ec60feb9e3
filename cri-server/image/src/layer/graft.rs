//! What of a layer depends on the layers below.
//!
//! Layers are unpacked side by side, each into a directory of its own, though an archive means to
//! be unpacked on top of the layers below it. Archives that list every directory, as most
//! builders write them, do not notice. In others
//!
//! - a directory without an entry has the attributes of the one below;
//! - a path may go through a symbolic link below, so its files belong where that link leads;
//! - a hard link may name a file below, which is copied up, as an overlay does.
//!
//! The archive's author controls both trees, so here, too, no path of theirs is followed by the
//! kernel's own rules.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid,
    XattrFlags, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, mkdirat, openat,
    openat2, renameat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::error::LayerError;
use super::extract::Extracted;
use crate::merged::{self, Merged, Node};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Settles a layer, whose files are in `fs`, on the layers below it, uppermost first.
pub fn graft(fs: &Path, extracted: &mut Extracted, below: &[PathBuf]) -> Result<(), LayerError> {
    let failed = |e| LayerError::io("open", fs.as_os_str().as_bytes())(e);
    let below = Merged::root(below)
        .map_err(|e| LayerError::Archive(format!("cannot read the layers below: {e}")))?;
    let layer = Layer {
        root: openat(CWD, fs, DIRECTORY, Mode::empty()).map_err(failed)?,
        below,
    };
    let mut moved: Vec<(PathBuf, PathBuf)> = Vec::new();
    for path in std::mem::take(&mut extracted.implied) {
        if moved.iter().any(|(from, _)| path.starts_with(from)) {
            continue;
        }
        if let Some(to) = layer.imply(&path).map_err(at(&path, "settle directory"))? {
            moved.push((path, to));
        }
    }
    for (link, target) in std::mem::take(&mut extracted.links) {
        let link = moved
            .iter()
            .find_map(|(from, to)| link.strip_prefix(from).ok().map(|rest| to.join(rest)))
            .unwrap_or(link);
        extracted.bytes += layer.copy_up(&link, &target)?;
        extracted.inodes += 1;
    }
    Ok(())
}

fn at(path: &Path, action: &'static str) -> impl FnOnce(Errno) -> LayerError {
    LayerError::io(action, path.as_os_str().as_bytes())
}

/// A layer and what it lies on.
struct Layer {
    root: OwnedFd,
    below: Rc<Merged>,
}

impl Layer {
    /// Opens a directory of the layer, if there is one at that path without a link in it.
    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.root, path, DIRECTORY, Mode::empty(), within)
    }

    /// Settles a directory that has no entry. Says where its files went, if not there.
    fn imply(&self, path: &Path) -> Result<Option<PathBuf>, Errno> {
        let dir = match self.open(path) {
            // A later entry put something else in its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            dir => dir?,
        };
        let Some(found) = merged::find(&self.below, path, false)? else {
            return Ok(None);
        };
        match found.node {
            Node::Directory(merged) => {
                if let Some(top) = merged.top() {
                    copy_attributes(top, &dir)?;
                }
                Ok(None)
            }
            node if node.file_type() == FileType::Symlink => {
                let Some(found) = merged::find(&self.below, path, true)? else {
                    return Ok(None);
                };
                let Node::Directory(_) = found.node else {
                    return Ok(None);
                };
                self.move_to(path, &found.path)?;
                Ok(Some(found.path))
            }
            _ => Ok(None),
        }
    }

    /// Makes a directory that a lower layer has, and its parents, with their attributes.
    fn make(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let mut at = PathBuf::new();
        let mut fd = self.open(&at)?;
        for component in path {
            at.push(component);
            let made = match mkdirat(&fd, component, Mode::RWXU) {
                Err(Errno::EXIST) => false,
                made => made.map(|()| true)?,
            };
            fd = openat(&fd, component, DIRECTORY, Mode::empty())?;
            if let Some(found) = merged::find(&self.below, &at, false)?.filter(|_| made)
                && let Node::Directory(merged) = found.node
                && let Some(top) = merged.top()
            {
                copy_attributes(top, &fd)?;
            }
        }
        Ok(fd)
    }

    /// Moves the files of a directory into another, which a link below leads to.
    fn move_to(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        let target = self.make(to)?;
        merge(&self.open(from)?, &target)?;
        let parent = self.open(from.parent().unwrap_or(Path::new("")))?;
        unlinkat(
            parent,
            from.file_name().unwrap_or_default(),
            AtFlags::REMOVEDIR,
        )
    }

    /// Copies what a hard link names from the layers below. Returns the bytes it takes.
    fn copy_up(&self, link: &Path, target: &Path) -> Result<u64, LayerError> {
        let name = link.as_os_str().as_bytes();
        let found = merged::find(&self.below, target, false).map_err(at(target, "look up"))?;
        let Some(found) = found else {
            let target = target.display();
            return Err(LayerError::refused(
                name,
                format!("is a hard link to {target}, which no layer has"),
            ));
        };
        let parent = merged_parent(&self.below, link).map_err(at(link, "look up"))?;
        let dir = self.make(&parent).map_err(at(link, "create directory"))?;
        let base = link.file_name().unwrap_or_default();
        match found.node.file_type() {
            FileType::RegularFile => {
                let mut source = found.node.open().map_err(at(target, "open"))?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let copy = openat(&dir, base, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(at(link, "create"))?;
                let mut copy = File::from(copy);
                let bytes = io::copy(&mut source, &mut copy).map_err(|source| LayerError::Io {
                    action: "copy up",
                    entry: super::error::printable(name),
                    source,
                })?;
                copy_attributes(&source, &copy).map_err(at(link, "set the attributes of"))?;
                Ok(bytes.next_multiple_of(super::extract::BLOCK))
            }
            FileType::Symlink => {
                let to = found.node.link_target().map_err(at(target, "read link"))?;
                symlinkat(to.as_slice(), &dir, base).map_err(at(link, "create symbolic link"))?;
                Ok(0)
            }
            kind => Err(LayerError::refused(
                name,
                format!("is a hard link to a {kind:?} of a lower layer"),
            )),
        }
    }
}

/// The directory that a file belongs to once the links below are followed.
fn merged_parent(below: &Rc<Merged>, path: &Path) -> Result<PathBuf, Errno> {
    let parent = path.parent().unwrap_or(Path::new(""));
    Ok(match merged::find(below, parent, true)? {
        Some(found) if matches!(found.node, Node::Directory(_)) => found.path,
        _ => parent.to_owned(),
    })
}

/// Moves everything in `from` to `to`; what both have as directories is merged, otherwise that of
/// `from` stays.
fn merge(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dots(name) {
            continue;
        }
        let both = is_directory(from, name)? && is_directory(to, name)?;
        if both {
            let open = |at: &OwnedFd| openat(at, name, DIRECTORY, Mode::empty());
            merge(&open(from)?, &open(to)?)?;
            unlinkat(from, name, AtFlags::REMOVEDIR)?;
        } else {
            renameat(from, name, to, name)?;
        }
    }
    Ok(())
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn is_directory(at: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
    match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Copies owner, mode, times and extended attributes.
fn copy_attributes(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    let stat = fstat(&from)?;
    if stat.st_uid != 0 || stat.st_gid != 0 {
        fchown(
            &to,
            Some(Uid::from_raw(stat.st_uid)),
            Some(Gid::from_raw(stat.st_gid)),
        )?;
    }
    fchmod(&to, Mode::from_raw_mode(stat.st_mode))?;
    copy_xattrs(&from, &to)?;
    let time = |sec: i64, nsec: u64| Timespec {
        tv_sec: sec,
        tv_nsec: nsec as _,
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    futimens(&to, &times)
}

fn copy_xattrs(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    let mut names = Vec::with_capacity(4096);
    match flistxattr(&from, rustix::buffer::spare_capacity(&mut names)) {
        Err(Errno::NOTSUP) => return Ok(()),
        listed => listed?,
    };
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        if super::attributes::is_foreign(name) {
            continue;
        }
        let mut value = Vec::with_capacity(64 << 10);
        fgetxattr(&from, name, rustix::buffer::spare_capacity(&mut value))?;
        fsetxattr(&to, name, &value, XattrFlags::empty())?;
    }
    Ok(())
}
