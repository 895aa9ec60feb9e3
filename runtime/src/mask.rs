//! Paths that a container must not see, or must not write.
//!
//! Everything goes by descriptor: a path is opened once inside the root, and what was opened is
//! what is covered, so that nothing can be swapped in between.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use crate::error::Doing;
use crate::mount::options::attr;
use crate::mount::{MountLabel, attach_tree, copy_of};
use crate::path::{self, Kind};
use crate::sys::fd::leave_to_exec;
use crate::sys::mount::{MountAttr, set_attr};
use crate::{Error, device};

/// Makes what is at these paths read-only, with everything below. Missing ones are skipped.
pub(crate) fn make_read_only(root: BorrowedFd<'_>, paths: &[String]) -> Result<(), Error> {
    let read_only = MountAttr {
        set: attr::RDONLY,
        ..MountAttr::default()
    };
    for path in paths {
        let Some(target) = open(root, path)? else {
            continue;
        };
        copy_tree_of(target.as_fd())
            .map_err(std::io::Error::from)
            .and_then(|tree| {
                set_attr(tree.as_fd(), true, &read_only)?;
                attach_tree(tree.as_fd(), target.as_fd())?;
                leave_to_exec(tree);
                Ok(())
            })
            .doing(|| format!("make {path} read-only"))?;
        leave_to_exec(target);
    }
    Ok(())
}

/// Covers files with the null device and directories with an empty, read-only directory, one for
/// all of them. Missing paths are skipped.
pub(crate) fn mask(
    root: BorrowedFd<'_>,
    paths: &[String],
    label: MountLabel<'_>,
) -> Result<(), Error> {
    let mut null: Option<OwnedFd> = None;
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let Some(target) = open(root, path)? else {
            continue;
        };
        let cover = match path::kind_of(&target).doing(|| format!("stat {path}"))? {
            Kind::File => match &null {
                Some(null) => null,
                None => null.insert(device::open_null()?),
            },
            Kind::Directory => match &empty {
                Some(empty) => empty,
                // Only what is attached somewhere can be copied (before Linux 6.15), so the
                // first directory gets the original.
                None => {
                    let mount = empty_directory(label)?;
                    attach_tree(mount.as_fd(), target.as_fd()).doing(|| format!("mask {path}"))?;
                    empty = Some(mount);
                    continue;
                }
            },
        };
        copy_of(cover.as_fd())
            .and_then(|copy| {
                attach_tree(copy.as_fd(), target.as_fd())?;
                leave_to_exec(copy);
                Ok(())
            })
            .doing(|| format!("mask {path}"))?;
        leave_to_exec(target);
    }
    Ok(())
}

fn open(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, Error> {
    match path::open(root, Path::new(path)) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(Error::system(format!("open {path} in the container"), e)),
    }
}

fn copy_tree_of(source: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    use rustix::mount::OpenTreeFlags as Flags;
    let flags = Flags::OPEN_TREE_CLONE
        | Flags::OPEN_TREE_CLOEXEC
        | Flags::AT_EMPTY_PATH
        | Flags::AT_RECURSIVE;
    rustix::mount::open_tree(source, "", flags)
}

fn empty_directory(label: MountLabel<'_>) -> Result<OwnedFd, Error> {
    let doing = || "make an empty directory";
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).doing(doing)?;
    label.configure(fs.as_fd())?;
    fsconfig_set_string(&fs, "nr_blocks", "1").doing(doing)?;
    fsconfig_set_string(&fs, "nr_inodes", "1").doing(doing)?;
    fsconfig_create(&fs).doing(doing)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).doing(doing)
}
