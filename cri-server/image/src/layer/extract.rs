//! Makes the entries of an archive below one directory, and nowhere else.
//!
//! Every path is resolved by openat2 with RESOLVE_IN_ROOT, so links in the archive lead around
//! within the layer only, whatever order they come in; the last component is made by an `*at`
//! call on its directory's descriptor that follows no link. Directories get their modes and
//! times last: until then they must be writable and are being written to.
//!
//! This file makes the entries; `place` finds and clears their places, `attributes` sets owners,
//! modes, times and extended attributes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, open, openat, statat,
    symlinkat,
};
use rustix::io::Errno;

use super::Limits;
use super::attributes::Later;
use super::error::{LayerError, printable};
use super::name::{Meaning, Name, meaning};
use super::place::{Existing, join};
use super::retained::Retained;
use super::tar::{Entry, Kind, Reader};

/// Disk space is counted in blocks of this size.
pub(super) const BLOCK: u64 = 4096;
/// Free space is looked at whenever so many bytes were announced.
pub(super) const CHECK_SPACE_EVERY: u64 = 32 << 20;

/// Targets of symbolic links take a block from this length on, in bytes.
const FAST_LINK: usize = 60;

/// What an archive has become.
#[derive(Debug, Default)]
pub struct Extracted {
    /// Disk space in bytes, counted in blocks of 4096.
    pub bytes: u64,
    /// File system objects made.
    pub inodes: u64,
    /// The root directory hides everything below.
    pub(crate) opaque: bool,
    /// Directories that had to be made though the archive has no entry for them.
    pub implied: BTreeSet<PathBuf>,
    /// Hard links whose targets are not in this layer, with these targets.
    pub links: BTreeMap<PathBuf, PathBuf>,
}

/// An extraction under way.
pub(super) struct Extractor {
    pub(super) root: OwnedFd,
    pub(super) replaced: OwnedFd,
    pub(super) replaced_count: u64,
    pub(super) limits: Limits,
    entries: u64,
    /// Bytes announced since free space was last looked at.
    pub(super) unchecked: u64,
    /// The directory used last: archives go through a tree directory by directory.
    pub(super) parent: Option<(Vec<u8>, OwnedFd)>,
    pub(super) retained: Retained,
    root_seen: bool,
    pub(super) warned: bool,
    pub(super) done: Extracted,
}

impl Extractor {
    /// Extracts into `root`; what entries replace is moved to `replaced`.
    pub(super) fn new(root: &Path, replaced: &Path, limits: Limits) -> Result<Self, LayerError> {
        let open_dir = |path: &Path| {
            open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(LayerError::io("open", path.as_os_str().as_bytes()))
        };
        Ok(Self {
            root: open_dir(root)?,
            replaced: open_dir(replaced)?,
            replaced_count: 0,
            limits,
            entries: 0,
            unchecked: 0,
            parent: None,
            retained: Retained::default(),
            root_seen: false,
            warned: false,
            done: Extracted {
                bytes: BLOCK,
                inodes: 1,
                ..Extracted::default()
            },
        })
    }

    /// Makes every entry of the archive.
    pub(super) fn run<R: BufRead>(
        mut self,
        archive: &mut Reader<R>,
    ) -> Result<Extracted, LayerError> {
        while let Some(entry) = archive.next()? {
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(LayerError::Limit {
                    limit: self.limits.entries,
                    unit: "entries",
                });
            }
            self.entry(&entry, archive)?;
        }
        if !self.root_seen {
            self.retained.imply(b"")?;
            self.retained.later(b"", Later::implied())?;
        }
        self.set_directories()?;
        (self.done.implied, self.done.links) = self.retained.into_graft();
        Ok(self.done)
    }

    fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Reader<R>,
    ) -> Result<(), LayerError> {
        let name = Name::parse(&entry.path)?;
        if name.is_root() {
            return self.root_entry(entry);
        }
        let (dir, base) = name.split();
        match meaning(base)? {
            Meaning::Ignored => Ok(()),
            Meaning::Opaque if dir.is_empty() => {
                self.done.opaque = true;
                Ok(())
            }
            Meaning::Opaque => self.opaque(dir),
            Meaning::Whiteout(hidden) => self.whiteout(dir, hidden),
            Meaning::Entry => match entry.kind {
                Kind::Directory => self.directory(entry, dir, base),
                Kind::File => self.file(entry, dir, base, archive),
                Kind::HardLink => self.hard_link(entry, dir, base),
                Kind::Symlink | Kind::Character | Kind::Block | Kind::Fifo => {
                    self.special(entry, dir, base)
                }
            },
        }
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.kind != Kind::Directory {
            return Err(LayerError::refused(
                &entry.path,
                "would replace the root directory",
            ));
        }
        self.root_seen = true;
        self.directory_attributes(entry, b"", b".")
    }

    fn directory(&mut self, entry: &Entry, dir: &[u8], base: &[u8]) -> Result<(), LayerError> {
        match mkdirat(self.parent(dir)?, base, Mode::RWXU) {
            Ok(()) => self.count(BLOCK)?,
            Err(Errno::EXIST) => match self.existing(dir, base)? {
                Existing::Directory => self.retained.has_entry(&join(dir, base)),
                found => self.directory_instead(found, dir, base)?,
            },
            Err(e) => return Err(LayerError::io("create directory", &entry.path)(e)),
        }
        self.directory_attributes(entry, dir, base)
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        dir: &[u8],
        base: &[u8],
        archive: &mut Reader<R>,
    ) -> Result<(), LayerError> {
        if entry.size > self.limits.bytes {
            return Err(LayerError::Limit {
                limit: self.limits.bytes,
                unit: "bytes",
            });
        }
        let held: u64 = entry
            .segments
            .iter()
            .map(|s| s.len.next_multiple_of(BLOCK))
            .sum();
        self.count(held)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = self.place("create", entry, dir, base, |parent| {
            openat(parent, base, flags, Mode::RUSR | Mode::WUSR)
        })?;
        let mut file = File::from(fd);
        self.write_segments(entry, &mut file, archive)?;
        self.file_attributes(entry, &file)
    }

    fn write_segments<R: BufRead>(
        &mut self,
        entry: &Entry,
        file: &mut File,
        archive: &mut Reader<R>,
    ) -> Result<(), LayerError> {
        let failed = |source| LayerError::Io {
            action: "write",
            entry: printable(&entry.path),
            source,
        };
        let mut position = 0;
        // GNU tar marks a hole at the end by an empty segment after it.
        for segment in entry.segments.iter().filter(|segment| segment.len > 0) {
            if segment.offset != position {
                file.seek(SeekFrom::Start(segment.offset)).map_err(failed)?;
            }
            let mut left = segment.len;
            while left > 0 {
                let data = archive.data()?;
                let len = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                file.write_all(&data[..len])
                    .map_err(|e| self.no_space(failed(e)))?;
                archive.consume(len);
                left -= len as u64;
            }
            position = segment.offset + segment.len;
        }
        if position != entry.size {
            file.set_len(entry.size).map_err(failed)?;
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, dir: &[u8], base: &[u8]) -> Result<(), LayerError> {
        let target = Name::parse(&entry.link)?;
        let (target_dir, target_base) = target.split();
        if target.is_root() {
            return Err(LayerError::refused(
                &entry.path,
                "is a hard link to the root directory",
            ));
        }
        if (target_dir, target_base) == (dir, base) {
            return Err(LayerError::refused(&entry.path, "is a hard link to itself"));
        }
        let from = match self.resolve(target_dir) {
            Ok(from) => from,
            Err(Errno::NOENT) => return self.link_later(dir, base, &target),
            Err(e) => {
                return Err(LayerError::io(
                    "resolve the target of hard link",
                    &entry.path,
                )(e));
            }
        };
        match statat(&from, target_base, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(LayerError::refused(
                    &entry.path,
                    "is a hard link to a directory",
                ));
            }
            Err(Errno::NOENT) => return self.link_later(dir, base, &target),
            _ => {}
        }
        self.place("link", entry, dir, base, |parent| {
            linkat(&from, target_base, parent, base, AtFlags::empty())
        })
    }

    fn link_later(&mut self, dir: &[u8], base: &[u8], target: &Name) -> Result<(), LayerError> {
        if statat(self.parent(dir)?, base, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            self.replace(dir, base)?;
        }
        self.retained.link(&join(dir, base), target.as_bytes())
    }

    fn special(&mut self, entry: &Entry, dir: &[u8], base: &[u8]) -> Result<(), LayerError> {
        // A short target is kept in the inode itself.
        let long_target = entry.kind == Kind::Symlink && entry.link.len() >= FAST_LINK;
        self.count(if long_target { BLOCK } else { 0 })?;
        let mode = Mode::from_raw_mode(entry.mode);
        let device = makedev(entry.device.0, entry.device.1);
        match entry.kind {
            Kind::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                self.place("create symbolic link", entry, dir, base, |parent| {
                    symlinkat(target, parent, base)
                })?;
            }
            kind => {
                let (file_type, device) = match kind {
                    Kind::Character => (FileType::CharacterDevice, device),
                    Kind::Block => (FileType::BlockDevice, device),
                    _ => (FileType::Fifo, 0),
                };
                self.place("create device", entry, dir, base, |parent| {
                    mknodat(parent, base, file_type, mode, device)
                })?;
            }
        }
        self.special_attributes(entry, dir, base)
    }
}
