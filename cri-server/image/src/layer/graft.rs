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

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid,
    XattrFlags, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, linkat, mkdirat,
    openat, openat2, renameat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::Limits;
use super::error::LayerError;
use super::extract::Extracted;
use super::retained::Moved;
use crate::merged::{Finder, Merged, Node};

/// Directories of one name that are merged, one within the other. Each level takes three
/// descriptors and some of the stack.
const MAX_DEPTH: usize = 256;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Settles a layer, whose files are in `fs`, on the layers below it, uppermost first.
pub fn graft(
    fs: &Path,
    extracted: &mut Extracted,
    below: &[PathBuf],
    limits: Limits,
) -> Result<(), LayerError> {
    let failed = |e| LayerError::io("open", fs.as_os_str().as_bytes())(e);
    let below = Merged::root(below)
        .map_err(|e| LayerError::Archive(format!("cannot read the layers below: {e}")))?;
    let mut layer = Layer {
        root: openat(CWD, fs, DIRECTORY, Mode::empty()).map_err(failed)?,
        places: Finder::new(below.clone()),
        targets: Finder::new(below),
        limits,
        copied: 0,
        copies: HashMap::new(),
    };
    let mut moved = Moved::default();
    for path in std::mem::take(&mut extracted.implied) {
        if moved.follow(&path).is_some() {
            continue;
        }
        if let Some(to) = layer.imply(&path).map_err(at(&path, "settle directory"))? {
            moved.insert(path, to);
        }
    }
    for (link, target) in std::mem::take(&mut extracted.links) {
        let link = moved.follow(&link).unwrap_or(link);
        layer.link(link, &target)?;
        extracted.inodes += 1;
    }
    extracted.bytes += layer.copied;
    Ok(())
}

fn at(path: &Path, action: &'static str) -> impl FnOnce(Errno) -> LayerError {
    LayerError::io(action, path.as_os_str().as_bytes())
}

/// A layer and what it lies on.
struct Layer {
    root: OwnedFd,
    /// The layers below, asked for what is at a path of this layer.
    places: Finder,
    /// The layers below, asked for what hard links name.
    targets: Finder,
    limits: Limits,
    /// Bytes copied up.
    copied: u64,
    /// The first link to each file that was copied up.
    copies: HashMap<(u64, u64), PathBuf>,
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
    fn imply(&mut self, path: &Path) -> Result<Option<PathBuf>, Errno> {
        let dir = match self.open(path) {
            // A later entry put something else in its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            dir => dir?,
        };
        let Some(found) = self.places.find(path, false)? else {
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
                let Some(found) = self.places.find(path, true)? else {
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
    fn make(&mut self, path: &Path) -> Result<OwnedFd, Errno> {
        let mut at = PathBuf::new();
        let mut fd = self.open(&at)?;
        for component in path {
            at.push(component);
            let made = match mkdirat(&fd, component, Mode::RWXU) {
                Err(Errno::EXIST) => false,
                made => made.map(|()| true)?,
            };
            fd = openat(&fd, component, DIRECTORY, Mode::empty())?;
            if made
                && let Some(found) = self.places.find(&at, false)?
                && let Node::Directory(merged) = found.node
                && let Some(top) = merged.top()
            {
                copy_attributes(top, &fd)?;
            }
        }
        Ok(fd)
    }

    /// Moves the files of a directory into another, which a link below leads to.
    fn move_to(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        let target = self.make(to)?;
        merge(&self.open(from)?, &target, MAX_DEPTH)?;
        let parent = self.open(from.parent().unwrap_or(Path::new("")))?;
        unlinkat(
            parent,
            from.file_name().unwrap_or_default(),
            AtFlags::REMOVEDIR,
        )
    }

    /// Makes a hard link to what only the layers below have: that is copied up once, and further
    /// links lead to the copy. What a later entry made at the link's place stays.
    fn link(&mut self, link: PathBuf, target: &Path) -> Result<(), LayerError> {
        let name = link.as_os_str().as_bytes();
        let found = self.targets.find(target, false);
        let Some(found) = found.map_err(at(target, "look up"))? else {
            let target = target.display();
            return Err(LayerError::refused(
                name,
                format!("is a hard link to {target}, which no layer has"),
            ));
        };
        let dir = self.parent(&link).map_err(at(&link, "create directory"))?;
        let base = link.file_name().unwrap_or_default();
        if statat(&dir, base, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(());
        }
        let identity = found.node.identity();
        if let Some(copy) = identity.and_then(|identity| self.copies.get(&identity)) {
            let copy = copy.clone();
            match self.link_to(&copy, &dir, base) {
                // So many names for one file: another copy of it takes the next ones.
                Err(Errno::MLINK) => {}
                linked => return linked.map_err(at(&link, "link")),
            }
        }
        match found.node.file_type() {
            FileType::RegularFile => self.copy_up(&found.node, &link, &dir)?,
            FileType::Symlink => {
                let to = found.node.link_target().map_err(at(target, "read link"))?;
                symlinkat(to.as_slice(), &dir, base).map_err(at(&link, "create symbolic link"))?;
            }
            kind => {
                return Err(LayerError::refused(
                    name,
                    format!("is a hard link to a {kind:?} of a lower layer"),
                ));
            }
        }
        self.copies
            .extend(identity.map(|identity| (identity, link)));
        Ok(())
    }

    fn link_to(&mut self, copy: &Path, dir: &OwnedFd, base: &OsStr) -> Result<(), Errno> {
        let from = self.parent(copy)?;
        let name = copy.file_name().unwrap_or_default();
        linkat(&from, name, dir, base, AtFlags::empty())
    }

    /// The directory that a file belongs to once the links below are followed, made if need be.
    fn parent(&mut self, path: &Path) -> Result<OwnedFd, Errno> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let found = self.places.find(parent, true)?;
        match found.filter(|found| matches!(found.node, Node::Directory(_))) {
            Some(found) => self.make(&found.path),
            None => self.make(parent),
        }
    }

    fn copy_up(&mut self, node: &Node, link: &Path, dir: &OwnedFd) -> Result<(), LayerError> {
        self.charge(node.size().next_multiple_of(super::extract::BLOCK))?;
        let mut source = node.open().map_err(at(link, "open the target of"))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let base = link.file_name().unwrap_or_default();
        let copy = openat(dir, base, flags, Mode::RUSR | Mode::WUSR).map_err(at(link, "create"))?;
        let mut copy = File::from(copy);
        io::copy(&mut source, &mut copy).map_err(|source| LayerError::Io {
            action: "copy up",
            entry: super::error::printable(link.as_os_str().as_bytes()),
            source,
        })?;
        copy_attributes(&source, &copy).map_err(at(link, "set the attributes of"))
    }

    /// Counts bytes that are about to be copied: a few bytes of archive ask for any number.
    fn charge(&mut self, bytes: u64) -> Result<(), LayerError> {
        let Limits {
            bytes: limit,
            reserve,
            ..
        } = self.limits;
        self.copied = self.copied.saturating_add(bytes);
        if self.copied > limit {
            return Err(LayerError::Limit {
                limit,
                unit: "bytes",
            });
        }
        let free = super::place::free_space(&self.root);
        if free < reserve.saturating_add(bytes) {
            return Err(LayerError::NoSpace { free, reserve });
        }
        Ok(())
    }
}

/// Moves everything in `from` to `to`; what both have as directories is merged, `depth` levels
/// deep at the most, otherwise that of `from` stays.
fn merge(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<(), Errno> {
    let depth = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dots(name) {
            continue;
        }
        let both = is_directory(from, name)? && is_directory(to, name)?;
        if both {
            let open = |at: &OwnedFd| openat(at, name, DIRECTORY, Mode::empty());
            merge(&open(from)?, &open(to)?, depth)?;
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
pub(crate) fn copy_attributes(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
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
