//! Directories for the volumes that an image declares, each filled with what the image has at its
//! path, as everybody's do: `<root>/snapshots/<container id>/volumes/<number>`. They live and go
//! with the container's snapshot.
//!
//! What must hold: the image's author decides what is copied, so that links are copied and never
//! followed on the way down, and depth is limited as it is for every tree here.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, major, makedev, minor,
    mknodat, openat,
};
use rustix::io::Errno;

use crate::error::StoreError;
use crate::layer::copy_attributes;
use crate::merged::{Finder, Merged, Node};

/// Directories nested deeper than this are not copied: each level costs a file descriptor for each
/// layer that has it.
const MAX_DEPTH: usize = 256;

/// Makes the directory `to` like the one at `path` in the image with these layers, uppermost
/// first. Where the image has none it is empty and root's.
pub(crate) fn make(layers: &[PathBuf], path: &Path, to: &Path) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::io("copy the image's files to volume", to)(e);
    fs::create_dir_all(to).map_err(failed)?;
    let mut finder = Finder::new(Merged::root(layers)?);
    let found = finder.find(path, true).map_err(|e| failed(e.into()))?;
    match found.map(|found| found.node) {
        Some(Node::Directory(dir)) => Copy::default()
            .directory(&dir, to, MAX_DEPTH)
            .map_err(failed),
        Some(Node::Other { .. }) | None => Ok(()),
    }
}

/// A copy that is being made.
#[derive(Default)]
struct Copy {
    /// Copies of files with several names, by device and inode number.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn directory(&mut self, from: &Rc<Merged>, to: &Path, depth: usize) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
        for name in from.names()? {
            let to = to.join(std::ffi::OsStr::from_bytes(&name));
            match from.lookup(&name)? {
                None => {}
                Some(Node::Directory(dir)) => {
                    fs::create_dir(&to)?;
                    self.directory(&dir, &to, depth)?;
                }
                Some(node) => self.file(&node, &to)?,
            }
        }
        if let Some(top) = from.top() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            copy_attributes(top, openat(CWD, to, flags, Mode::empty())?)?;
        }
        Ok(())
    }

    fn file(&mut self, node: &Node, to: &Path) -> io::Result<()> {
        let Node::Other { stat, .. } = node else {
            return Ok(());
        };
        if stat.st_nlink > 1
            && let Some(identity) = node.identity()
        {
            if let Some(first) = self.linked.get(&identity) {
                return fs::hard_link(first, to);
            }
            self.linked.insert(identity, to.to_path_buf());
        }
        match node.file_type() {
            FileType::RegularFile => {
                let mut from = node.open()?;
                let mut copy = File::create_new(to)?;
                io::copy(&mut from, &mut copy)?;
                return Ok(copy_attributes(&from, &copy)?);
            }
            FileType::Symlink => {
                let target = node.link_target()?;
                symlink(std::ffi::OsStr::from_bytes(&target), to)?;
            }
            kind @ (FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => {
                let device = makedev(major(stat.st_rdev), minor(stat.st_rdev));
                mknodat(CWD, to, kind, Mode::from_raw_mode(stat.st_mode), device)?;
                fs::set_permissions(to, mode(stat))?;
            }
            // A socket that nobody listens at is of no use.
            _ => return Ok(()),
        }
        let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(chownat(CWD, to, Some(owner.0), Some(owner.1), flags)?)
    }
}

fn mode(stat: &Stat) -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(stat.st_mode & 0o7777)
}

impl Merged {
    /// Names that some layer has in the directory; [`Merged::lookup`] tells what, or that it is
    /// hidden.
    fn names(&self) -> Result<BTreeSet<Vec<u8>>, Errno> {
        let mut names = BTreeSet::new();
        for layer in self.layers() {
            for entry in Dir::read_from(layer)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if !matches!(name, b"." | b"..") {
                    names.insert(name.to_vec());
                }
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_volume_begins_with_what_the_image_has() {
        let root = tempfile::tempdir().unwrap();
        let (upper, lower) = (root.path().join("upper"), root.path().join("lower"));
        fs::create_dir_all(upper.join("srv/data/sub")).unwrap();
        fs::create_dir_all(lower.join("srv/data/sub")).unwrap();
        fs::write(lower.join("srv/data/sub/below"), "below").unwrap();
        fs::write(upper.join("srv/data/sub/above"), "above").unwrap();
        fs::hard_link(
            upper.join("srv/data/sub/above"),
            upper.join("srv/data/again"),
        )
        .unwrap();
        symlink("/etc/passwd", upper.join("srv/data/link")).unwrap();
        symlink("srv", lower.join("var")).unwrap();
        let permissions = fs::Permissions::from_mode(0o1750);
        fs::set_permissions(upper.join("srv/data"), permissions).unwrap();
        let to = root.path().join("snapshots/c/volumes/0");
        make(&[upper, lower], Path::new("/var/data"), &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o1750);
        assert_eq!(fs::read_to_string(to.join("sub/below")).unwrap(), "below");
        assert_eq!(fs::read_to_string(to.join("again")).unwrap(), "above");
        let inode = |path: &str| fs::metadata(to.join(path)).unwrap().ino();
        assert_eq!(inode("again"), inode("sub/above"));
        let link = fs::read_link(to.join("link")).unwrap();
        assert_eq!(link, Path::new("/etc/passwd"));
    }

    #[test]
    fn a_volume_that_the_image_has_nothing_for_is_empty() {
        let root = tempfile::tempdir().unwrap();
        let layer = root.path().join("layer");
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join("file"), "").unwrap();
        for (number, path) in ["/none", "/file", "/file/below"].into_iter().enumerate() {
            let to = root.path().join(format!("volumes/{number}"));
            make(std::slice::from_ref(&layer), Path::new(path), &to).unwrap();
            assert_eq!(fs::read_dir(&to).unwrap().count(), 0, "{path}");
        }
    }
}
