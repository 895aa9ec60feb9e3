//! Writable layers of containers: `<root>/snapshots/<container id>/{upper,work}`.
//!
//! A snapshot is two directories; the overlay that uses them is mounted by the shim, detached,
//! so removing a snapshot is deleting a directory.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use crate::error::StoreError;
use crate::image::Image;
use crate::layout::make_private;
use crate::skeleton;
use crate::spare::{self, Spares, UPPER, WORK};
use crate::trash::Trash;
use crate::volume;

/// Where deleted snapshots wait; no container id looks like this.
const TRASH: &str = ".trash";
/// The directories of a container's volumes in its snapshot.
const VOLUMES: &str = "volumes";
/// Where directories for snapshots to come wait.
const SPARE: &str = ".spare";
/// The layer below those of every image.
const SKELETON: &str = ".skeleton";
/// Directories nested deeper than this are not counted by [`Snapshots::usage`]: each level costs
/// a file descriptor, and the nesting is up to the container.
const MAX_DEPTH: usize = 512;

/// The directories of one container's root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Layers of the image, uppermost first, and one of mount points.
    pub lower: Vec<PathBuf>,
    /// What the container writes.
    pub upper: PathBuf,
    /// Overlayfs's own directory.
    pub work: PathBuf,
}

/// Disk space used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Allocated bytes.
    pub bytes: u64,
    /// Files, directories and everything else, a file with several names counted once.
    pub inodes: u64,
}

/// All snapshots of the node.
#[derive(Debug)]
pub struct Snapshots {
    dir: PathBuf,
    trash: Trash,
    spares: Spares,
}

impl Snapshots {
    pub(crate) fn open(dir: PathBuf, trash: Trash) -> Result<Self, StoreError> {
        let dustbin = dir.join(TRASH);
        fs::create_dir_all(&dustbin).map_err(StoreError::io("create directory", &dustbin))?;
        make_private(&dir)?;
        trash.sweep(&dustbin)?;
        let spares = Spares::start(dir.join(SPARE))?;
        skeleton::make(&dir.join(SKELETON))?;
        Ok(Self { dir, trash, spares })
    }

    /// The directory that holds them; its file system is the one ImageFsInfo reports for
    /// containers.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directories for a container on top of `image`. What an earlier attempt for the
    /// same id left is removed first.
    pub fn prepare(&self, id: &str, image: &Image) -> Result<Snapshot, StoreError> {
        let base = self.dir.join(id);
        let (upper, work) = (base.join(UPPER), base.join(WORK));
        // Whatever keeps a spare from being moved there, making it says what that is.
        if !self.spares.take(&base).unwrap_or(false) {
            match fs::create_dir(&base) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.remove(id)?,
                made => made.map_err(StoreError::io("create directory", &base))?,
            }
            spare::make(&base).map_err(StoreError::io("create directory", &base))?;
        }
        // The upper directory is the container's `/`: it must look like the image's.
        if let Some(root) = image.layers.first() {
            copy_owner_and_mode(root, &upper)?;
        }
        Ok(Snapshot {
            lower: [&image.layers[..], &[self.dir.join(SKELETON)]].concat(),
            upper,
            work,
        })
    }

    /// Where the directory of a volume that a container's image declares is.
    pub fn volume(&self, id: &str, number: usize) -> PathBuf {
        self.dir.join(id).join(VOLUMES).join(number.to_string())
    }

    /// Makes that directory in a prepared snapshot, with what the image has at `path`. Copies
    /// files: call it off the async threads.
    pub fn make_volume(
        &self,
        id: &str,
        number: usize,
        image: &Image,
        path: &Path,
    ) -> Result<(), StoreError> {
        volume::make(&image.layers, path, &self.volume(id, number))
    }

    /// Removes a container's snapshot; the files are deleted in the background. One that does
    /// not exist is fine.
    pub fn remove(&self, id: &str) -> Result<(), StoreError> {
        self.trash
            .discard(&self.dir.join(id), &self.dir.join(TRASH))
    }

    /// Ids of all snapshots, for recovery to compare with its records.
    pub fn list(&self) -> Result<Vec<String>, StoreError> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(StoreError::io("read", &self.dir))? {
            let name = entry
                .map_err(StoreError::io("read", &self.dir))?
                .file_name();
            let name = name.into_string().ok();
            ids.extend(name.filter(|name| ![TRASH, SPARE, SKELETON].contains(&name.as_str())));
        }
        Ok(ids)
    }

    /// Disk space of what the container wrote, the volumes that its image declares included.
    /// Walks its directories: call it off the async threads. `None` when there is no such snapshot.
    pub fn usage(&self, id: &str) -> Result<Option<Usage>, StoreError> {
        let walk = |name| {
            let dir = self.dir.join(id).join(name);
            match walk(&dir) {
                Ok(usage) => Ok(Some(usage)),
                Err(Errno::NOENT) => Ok(None),
                Err(e) => Err(StoreError::io("measure", &dir)(e.into())),
            }
        };
        let Some(upper) = walk(UPPER)? else {
            return Ok(None);
        };
        let volumes = walk(VOLUMES)?.unwrap_or_default();
        Ok(Some(Usage {
            bytes: upper.bytes + volumes.bytes,
            inodes: upper.inodes + volumes.inodes,
        }))
    }
}

fn copy_owner_and_mode(from: &Path, to: &Path) -> Result<(), StoreError> {
    let meta = fs::metadata(from).map_err(StoreError::io("read the attributes of", from))?;
    if meta.uid() != 0 || meta.gid() != 0 {
        std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid()))
            .map_err(StoreError::io("change the owner of", to))?;
    }
    fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))
        .map_err(StoreError::io("change the mode of", to))
}

/// Sums up a tree that its container may be changing meanwhile: what vanishes is not counted.
fn walk(top: &Path) -> Result<Usage, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    let root = openat(CWD, top, flags, Mode::empty())?;
    let mut levels = vec![(Dir::read_from(&root)?, root)];
    while let Some((entries, fd)) = levels.last_mut() {
        let Some(entry) = entries.read().transpose()? else {
            levels.pop();
            continue;
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match statat(&*fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_dir && stat.st_nlink > 1 && !linked.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        usage.inodes += 1;
        usage.bytes += stat.st_blocks as u64 * 512;
        if is_dir {
            match openat(&*fd, name, flags, Mode::empty()) {
                Ok(below) if levels.len() < MAX_DEPTH => {
                    levels.push((Dir::read_from(&below)?, below));
                }
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, ImageConfig};

    fn image(layers: Vec<PathBuf>) -> Image {
        Image {
            id: Digest::of(b"image"),
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            size: 1,
            config: ImageConfig::default(),
            layers,
            pinned: false,
            signatures: Vec::new(),
        }
    }

    fn open(root: &Path) -> Snapshots {
        Snapshots::open(root.join("snapshots"), Trash::start().unwrap()).unwrap()
    }

    #[test]
    fn prepared_listed_removed() {
        let root = tempfile::tempdir().unwrap();
        let layer = root.path().join("layer");
        fs::create_dir(&layer).unwrap();
        fs::set_permissions(&layer, fs::Permissions::from_mode(0o711)).unwrap();
        let snapshots = open(root.path());
        assert_eq!(
            fs::metadata(snapshots.dir()).unwrap().mode() & 0o7777,
            0o700
        );
        let made = snapshots
            .prepare("c1", &image(vec![layer.clone()]))
            .unwrap();
        assert_eq!(made.lower, [layer, root.path().join("snapshots/.skeleton")]);
        assert_eq!(fs::metadata(&made.upper).unwrap().mode() & 0o7777, 0o711);
        assert_eq!(snapshots.list().unwrap(), ["c1"]);
        snapshots.remove("c1").unwrap();
        snapshots.remove("c1").unwrap();
        assert!(!made.upper.exists());
        assert!(snapshots.list().unwrap().is_empty());
    }

    #[test]
    fn a_retry_starts_empty() {
        let root = tempfile::tempdir().unwrap();
        let snapshots = open(root.path());
        let first = snapshots.prepare("c1", &image(Vec::new())).unwrap();
        fs::write(first.upper.join("left"), "x").unwrap();
        let second = snapshots.prepare("c1", &image(Vec::new())).unwrap();
        assert_eq!(first, second);
        assert!(!second.upper.join("left").exists());
    }

    #[test]
    fn usage_counts_linked_files_once() {
        let root = tempfile::tempdir().unwrap();
        let snapshots = open(root.path());
        assert_eq!(snapshots.usage("c1").unwrap(), None);
        let made = snapshots.prepare("c1", &image(Vec::new())).unwrap();
        assert_eq!(snapshots.usage("c1").unwrap().unwrap().inodes, 0);
        fs::create_dir(made.upper.join("d")).unwrap();
        fs::write(made.upper.join("d/a"), vec![1; 100_000]).unwrap();
        fs::hard_link(made.upper.join("d/a"), made.upper.join("b")).unwrap();
        std::os::unix::fs::symlink("/", made.upper.join("l")).unwrap();
        let usage = snapshots.usage("c1").unwrap().unwrap();
        assert_eq!(usage.inodes, 3);
        assert!((100_000..200_000).contains(&usage.bytes), "{usage:?}");
    }

    #[test]
    fn usage_counts_volumes() {
        let root = tempfile::tempdir().unwrap();
        let snapshots = open(root.path());
        snapshots.prepare("c1", &image(Vec::new())).unwrap();
        let volume = snapshots.volume("c1", 0);
        fs::create_dir_all(&volume).unwrap();
        fs::write(volume.join("a"), vec![1; 100_000]).unwrap();
        let usage = snapshots.usage("c1").unwrap().unwrap();
        assert_eq!(usage.inodes, 2, "the volume and its file");
        assert!((100_000..200_000).contains(&usage.bytes), "{usage:?}");
    }
}
