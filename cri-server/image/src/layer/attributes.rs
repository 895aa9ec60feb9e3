//! Owners, modes, times and extended attributes of what an archive makes.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fsetxattr, futimens, lsetxattr, utimensat,
};
use rustix::io::Errno;

use super::error::{LayerError, printable};
use super::extract::{BLOCK, Extractor};
use super::name::Name;
use super::place::open_directory;
use super::tar::{Entry, Kind};

/// Attributes that are not an image's to set: an overlay's marks on its layers, and the host's
/// labels.
const FOREIGN_XATTRS: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"security.selinux"];
/// Bytes of extended attributes that fit into an inode on common file systems.
const INLINE_XATTRS: usize = 128;
/// Mode of a directory that no entry and no lower layer describes.
const IMPLIED_MODE: u32 = 0o755;

/// A directory's attributes, set when everything is in it.
#[derive(Debug)]
pub(super) struct Later {
    mode: u32,
    times: Timestamps,
}

impl Later {
    /// For a directory without an entry.
    pub(super) fn implied() -> Self {
        let omit = || Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        };
        let times = Timestamps {
            last_access: omit(),
            last_modification: omit(),
        };
        Self {
            mode: IMPLIED_MODE,
            times,
        }
    }
}

impl Extractor {
    pub(super) fn file_attributes(&mut self, entry: &Entry, file: &File) -> Result<(), LayerError> {
        if let Some((uid, gid)) = owner(entry) {
            fchown(file, Some(uid), Some(gid))
                .map_err(LayerError::io("change the owner of", &entry.path))?;
        }
        // After the owner: changing it clears setuid, setgid and capabilities.
        fchmod(file, Mode::from_raw_mode(entry.mode))
            .map_err(LayerError::io("change the mode of", &entry.path))?;
        self.xattrs(entry, |name, value| {
            fsetxattr(file, name, value, XattrFlags::empty())
        })?;
        futimens(file, &times(entry)).map_err(LayerError::io("set the times of", &entry.path))
    }

    /// Sets a directory's owner and extended attributes now and the rest at the end.
    pub(super) fn directory_attributes(
        &mut self,
        entry: &Entry,
        dir: &[u8],
        base: &[u8],
    ) -> Result<(), LayerError> {
        self.chown(entry, dir, base)?;
        if !entry.xattrs.is_empty() {
            let fd = open_directory(self.parent(dir)?, base)
                .map_err(LayerError::io("open", &entry.path))?;
            self.xattrs(entry, |name, value| {
                fsetxattr(&fd, name, value, XattrFlags::empty())
            })?;
        }
        let later = Later {
            mode: entry.mode,
            times: times(entry),
        };
        self.retained
            .later(Name::parse(&entry.path)?.as_bytes(), later)
    }

    pub(super) fn special_attributes(
        &mut self,
        entry: &Entry,
        dir: &[u8],
        base: &[u8],
    ) -> Result<(), LayerError> {
        self.chown(entry, dir, base)?;
        if entry.kind != Kind::Symlink {
            let mode = Mode::from_raw_mode(entry.mode);
            chmodat(self.parent(dir)?, base, mode, AtFlags::empty())
                .map_err(LayerError::io("change the mode of", &entry.path))?;
        }
        if !entry.xattrs.is_empty() {
            // There is no way to a link's own attributes by descriptor.
            let fd = self.parent(dir)?.as_raw_fd();
            let path = [format!("/proc/self/fd/{fd}/").as_bytes(), base].concat();
            self.xattrs(entry, |name, value| {
                lsetxattr(path.as_slice(), name, value, XattrFlags::empty())
            })?;
        }
        utimensat(
            self.parent(dir)?,
            base,
            &times(entry),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(LayerError::io("set the times of", &entry.path))
    }

    fn chown(&mut self, entry: &Entry, dir: &[u8], base: &[u8]) -> Result<(), LayerError> {
        let Some((uid, gid)) = owner(entry) else {
            return Ok(());
        };
        chownat(
            self.parent(dir)?,
            base,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(LayerError::io("change the owner of", &entry.path))
    }

    fn xattrs(
        &mut self,
        entry: &Entry,
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), LayerError> {
        let mut bytes = 0;
        for (name, value) in &entry.xattrs {
            if is_foreign(name) {
                continue;
            }
            bytes += name.len() + value.len();
            match set(name, value) {
                Ok(()) => {}
                // The file system may have none, and a link may carry none of a user's.
                Err(Errno::NOTSUP) => self.warn_once(entry, name),
                Err(Errno::PERM) if name.starts_with(b"user.") => self.warn_once(entry, name),
                Err(e) => return Err(LayerError::io("set an attribute of", &entry.path)(e)),
            }
        }
        if bytes < INLINE_XATTRS {
            return Ok(());
        }
        self.use_space((bytes as u64).next_multiple_of(BLOCK))
    }

    fn warn_once(&mut self, entry: &Entry, attribute: &[u8]) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                entry = printable(&entry.path),
                attribute = printable(attribute),
                "extended attributes are left out: the file system does not take them"
            );
        }
    }

    /// Sets what was put off. A later entry may have put something else in a directory's place.
    pub(super) fn set_directories(&mut self) -> Result<(), LayerError> {
        for (path, Later { mode, times }) in self.retained.take_later() {
            let name = Name::parse(&path)?;
            let (dir, base) = name.split();
            let base = if base.is_empty() { b"." } else { base };
            let fd = match self
                .resolve(dir)
                .and_then(|dir| open_directory(dir.as_fd(), base))
            {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                fd => fd.map_err(LayerError::io("open", &path))?,
            };
            fchmod(&fd, Mode::from_raw_mode(mode))
                .and_then(|()| futimens(&fd, &times))
                .map_err(LayerError::io("set the mode and times of", &path))?;
        }
        Ok(())
    }
}

pub(super) fn is_foreign(attribute: &[u8]) -> bool {
    FOREIGN_XATTRS
        .iter()
        .any(|foreign| attribute.starts_with(foreign))
}

/// `None` for root, who makes the files.
fn owner(entry: &Entry) -> Option<(Uid, Gid)> {
    let theirs = entry.uid != 0 || entry.gid != 0;
    theirs.then(|| (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid)))
}

fn times(entry: &Entry) -> Timestamps {
    let time = || Timespec {
        tv_sec: entry.mtime.0,
        tv_nsec: entry.mtime.1.into(),
    };
    Timestamps {
        last_access: time(),
        last_modification: time(),
    }
}
