//! Finding and clearing the place of an entry.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags, fsetxattr, fstatvfs, mkdirat,
    mknodat, openat, openat2, readlinkat, renameat, statat,
};
use rustix::io::Errno;

use super::attributes::Later;
use super::error::LayerError;
use super::extract::{BLOCK, CHECK_SPACE_EVERY, Extractor};
use super::name::Name;
use super::tar::Entry;

/// Links followed in a row before giving up, as the kernel does.
const MAX_LINKS: usize = 40;
/// Attempts at a path while renames elsewhere on the machine disturb its `..`.
const MAX_RACES: usize = 1000;
/// What a file system object takes besides its content, in bytes.
const INODE: u64 = 512;
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";

/// What already has a name that an entry wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Directory,
    Symlink,
    Whiteout,
    Other,
}

impl Extractor {
    /// Makes an entry at its place, replacing what an earlier entry made there.
    pub(super) fn place<T>(
        &mut self,
        action: &'static str,
        entry: &Entry,
        dir: &[u8],
        base: &[u8],
        mut make: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, LayerError> {
        let made = match make(self.parent(dir)?) {
            Err(Errno::EXIST) => {
                self.replace(dir, base)?;
                make(self.parent(dir)?)
            }
            made => made,
        };
        made.map_err(|e| self.no_space(LayerError::io(action, &entry.path)(e)))
    }

    /// Descriptor of a directory, made if need be.
    pub(super) fn parent(&mut self, dir: &[u8]) -> Result<BorrowedFd<'_>, LayerError> {
        let fd = match self.parent.take() {
            Some((path, fd)) if path == dir => fd,
            _ => match self.resolve(dir) {
                Err(Errno::NOENT | Errno::NOTDIR) => self.make_directories(dir)?,
                found => found.map_err(LayerError::io("open directory", dir))?,
            },
        };
        let (_, fd) = &*self.parent.insert((dir.to_vec(), fd));
        Ok(fd.as_fd())
    }

    /// Opens a directory of the layer, whatever links lead there.
    pub(super) fn resolve(&self, dir: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if dir.is_empty() { b"." } else { dir };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        for _ in 0..MAX_RACES {
            match openat2(&self.root, path, flags, Mode::empty(), within) {
                Err(Errno::AGAIN) => {}
                outcome => return outcome,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Makes the directories of a path that no entry made. Where a link of this layer leads to a
    /// directory that only a lower layer has, that directory is made here, too.
    fn make_directories(&mut self, dir: &[u8]) -> Result<OwnedFd, LayerError> {
        let failed = |e| LayerError::io("create directory", dir)(e);
        let mut links = 0;
        let mut wanted = dir.to_vec();
        'restart: loop {
            let mut at = Vec::new();
            let mut fd = self.resolve(b"").map_err(failed)?;
            for component in wanted.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
                let below = join(&at, component);
                match mkdirat(&fd, component, Mode::RWXU) {
                    Ok(()) => self.imply(&below)?,
                    Err(Errno::EXIST) => match self.existing_at(&fd, component, &below)? {
                        Existing::Directory => {}
                        Existing::Whiteout => {
                            self.directory_instead(Existing::Whiteout, &at, component)?;
                            self.imply(&below)?;
                        }
                        Existing::Symlink if links < MAX_LINKS => {
                            links += 1;
                            let target = readlinkat(&fd, component, Vec::new()).map_err(failed)?;
                            let consumed = below.len();
                            let rest = wanted.get(consumed..).unwrap_or_default().to_vec();
                            let target = Name::follow(&at, target.as_bytes());
                            let path = [target.as_bytes(), &rest].concat();
                            wanted = Name::follow(b"", &path).as_bytes().to_vec();
                            continue 'restart;
                        }
                        Existing::Symlink => return Err(failed(Errno::LOOP)),
                        Existing::Other => return Err(failed(Errno::NOTDIR)),
                    },
                    Err(e) => return Err(self.no_space(failed(e))),
                }
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                fd = openat(&fd, component, flags, Mode::empty()).map_err(failed)?;
                at = below;
            }
            return Ok(fd);
        }
    }

    /// Notes a directory that no entry made.
    fn imply(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.count(BLOCK)?;
        self.retained.imply(path)?;
        self.retained.later(path, Later::implied())
    }

    pub(super) fn existing(&mut self, dir: &[u8], base: &[u8]) -> Result<Existing, LayerError> {
        let path = join(dir, base);
        let fd = self
            .resolve(dir)
            .map_err(LayerError::io("open directory", dir))?;
        self.existing_at(&fd, base, &path)
    }

    fn existing_at(&self, fd: &OwnedFd, base: &[u8], path: &[u8]) -> Result<Existing, LayerError> {
        let stat =
            statat(fd, base, AtFlags::SYMLINK_NOFOLLOW).map_err(LayerError::io("look at", path))?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Existing::Directory,
            FileType::Symlink => Existing::Symlink,
            FileType::CharacterDevice if stat.st_rdev == 0 => Existing::Whiteout,
            _ => Existing::Other,
        })
    }

    /// Puts a directory where something else is. Where that was a whiteout the directory is
    /// opaque: what the layers below have at this path stays hidden.
    pub(super) fn directory_instead(
        &mut self,
        of: Existing,
        dir: &[u8],
        base: &[u8],
    ) -> Result<(), LayerError> {
        self.replace(dir, base)?;
        let path = join(dir, base);
        mkdirat(self.parent(dir)?, base, Mode::RWXU)
            .map_err(LayerError::io("create directory", &path))?;
        self.count(BLOCK)?;
        if of == Existing::Whiteout {
            self.opaque(&path)
        } else {
            Ok(())
        }
    }

    /// Moves what is at a place out of the layer.
    pub(super) fn replace(&mut self, dir: &[u8], base: &[u8]) -> Result<(), LayerError> {
        let n = self.replaced_count.to_string();
        self.replaced_count += 1;
        let parent = self
            .resolve(dir)
            .map_err(LayerError::io("open directory", dir))?;
        // The descriptor that is kept may be of a directory that goes now.
        self.parent = None;
        renameat(parent, base, &self.replaced, n)
            .map_err(LayerError::io("replace", &join(dir, base)))
    }

    /// Hides what the layers below have at a path.
    pub(super) fn whiteout(&mut self, dir: &[u8], base: &[u8]) -> Result<(), LayerError> {
        let made = mknodat(
            self.parent(dir)?,
            base,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        );
        match made {
            Ok(()) => self.count(0),
            // A whiteout speaks of the layers below only, wherever in the archive it stands.
            Err(Errno::EXIST) => match self.existing(dir, base)? {
                Existing::Directory => self.opaque(&join(dir, base)),
                _ => Ok(()),
            },
            Err(e) => Err(LayerError::io("create whiteout", &join(dir, base))(e)),
        }
    }

    /// Hides what the layers below have in a directory.
    pub(super) fn opaque(&mut self, dir: &[u8]) -> Result<(), LayerError> {
        let failed = |e| LayerError::io("make opaque", dir)(e);
        let fd = open_directory(self.parent(dir)?, b".").map_err(failed)?;
        fsetxattr(fd, OPAQUE, b"y", XattrFlags::empty()).map_err(failed)
    }

    /// Counts a file system object that will take `bytes`, and looks at free space now and then.
    pub(super) fn count(&mut self, bytes: u64) -> Result<(), LayerError> {
        self.done.inodes += 1;
        // Directories without an entry of their own count, too: one entry may imply thousands.
        if self.done.inodes > self.limits.entries {
            return Err(LayerError::Limit {
                limit: self.limits.entries,
                unit: "entries",
            });
        }
        // The object itself takes space, too: a million empty files are not nothing.
        self.unchecked += INODE;
        self.use_space(bytes)
    }

    /// Counts bytes of disk space.
    pub(super) fn use_space(&mut self, bytes: u64) -> Result<(), LayerError> {
        self.done.bytes += bytes;
        self.unchecked += bytes;
        if self.unchecked < CHECK_SPACE_EVERY {
            return Ok(());
        }
        self.unchecked = 0;
        let (free, reserve) = (free_space(&self.root), self.limits.reserve);
        if free < reserve.saturating_add(bytes) {
            return Err(LayerError::NoSpace { free, reserve });
        }
        Ok(())
    }

    /// Turns a full disk into the error that says so.
    pub(super) fn no_space(&self, error: LayerError) -> LayerError {
        let full = matches!(
            &error,
            LayerError::Io { source, .. }
                if matches!(Errno::from_io_error(source), Some(Errno::NOSPC | Errno::DQUOT))
        );
        if full {
            LayerError::NoSpace {
                free: free_space(&self.root),
                reserve: self.limits.reserve,
            }
        } else {
            error
        }
    }
}

/// Bytes that are free where `fd` is.
pub(super) fn free_space(fd: &OwnedFd) -> u64 {
    // A file system that cannot say how much is free has nothing to compare with.
    fstatvfs(fd).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Opens a directory for what a path descriptor cannot do.
pub(super) fn open_directory(at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

pub(super) fn join(dir: &[u8], base: &[u8]) -> Vec<u8> {
    if dir.is_empty() {
        base.to_vec()
    } else {
        [dir, b"/", base].concat()
    }
}

pub(super) fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
