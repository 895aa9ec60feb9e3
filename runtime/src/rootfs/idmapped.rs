//! The overlay of a container with a user namespace: its lower layers are mounted with the
//! namespace's mappings, so that the image's files, which are the host root's on disk, are the
//! container root's in there. Nothing is copied and no file changes its owner.
//!
//! The upper directory is not mapped: what the container writes is on disk under the host's ids
//! of its users. Only the directory itself, made by whoever made the snapshot, is given to whom
//! the image's root directory belongs to inside.
//!
//! An overlay keeps copies of its layers' mounts. To take one down the kernel waits for all
//! processors, 0.1 ms and more, so those that have done their service are only collected here:
//! whoever started this closes them when nobody waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Gid, Uid, chown};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsmount, fsopen,
    mount_change, move_mount, open_tree,
};

use crate::error::Doing;
use crate::mount::MountLabel;
use crate::mount::options::attr;
use crate::namespace::Namespaces;
use crate::sys::mount::{MountAttr, set_attr};
use crate::user_namespace::UserNamespace;
use crate::{Error, namespace, shm};

/// Makes the detached overlay.
pub(super) fn overlay(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    user: &UserNamespace,
    label: MountLabel<'_>,
    served: &mut Vec<OwnedFd>,
) -> Result<OwnedFd, Error> {
    give(lower, upper, user)?;
    let staged = || match super::overlay(lower, upper, work, label)? {
        Some(mount) => Ok(mount),
        None => Err(Error::invalid(
            "root",
            "an overlay of mapped layers takes Linux 6.8 or later",
        )),
    };
    let detached = |fs: OwnedFd| detached(fs.as_fd(), upper, work, label);
    made(lower, user, served, detached, staged)
}

/// Makes a detached overlay of layers alone, as an image volume is. `plain` makes it of the same
/// layers where they are mapped already.
pub(crate) fn read_only(
    lower: &[PathBuf],
    user: &UserNamespace,
    label: MountLabel<'_>,
    served: &mut Vec<OwnedFd>,
    plain: impl FnOnce() -> Result<OwnedFd, Error>,
) -> Result<OwnedFd, Error> {
    let detached = |fs: OwnedFd| {
        label.configure(fs.as_fd())?;
        let doing = || "make an overlay of mapped layers";
        fsconfig_create(&fs).doing(doing)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).doing(doing)
    };
    made(lower, user, served, detached, plain)
}

/// An overlay of mapped layers: of those themselves, or before Linux 6.15, where an overlay takes
/// only what is attached, of their directories in a mount namespace of its own, where each layer is
/// attached over itself. The overlay keeps copies, so that the namespace ends with this.
fn made(
    lower: &[PathBuf],
    user: &UserNamespace,
    served: &mut Vec<OwnedFd>,
    detached: impl FnOnce(OwnedFd) -> Result<OwnedFd, Error>,
    staged: impl FnOnce() -> Result<OwnedFd, Error>,
) -> Result<OwnedFd, Error> {
    if lower.is_empty() {
        return Err(Error::invalid(
            "root",
            "an overlay without a lower directory",
        ));
    }
    let layers = layers(lower, user)?;
    let made = match start(&layers)? {
        Some(fs) => detached(fs),
        None => shm::elsewhere(|| {
            stage(&layers, lower)?;
            staged()
        }),
    };
    served.extend(layers);
    made
}

/// Detached mounts of layers, mapped.
fn layers(lower: &[PathBuf], user: &UserNamespace) -> Result<Vec<OwnedFd>, Error> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let one = |layer: &PathBuf| {
        let tree =
            open_tree(CWD, layer, flags).doing(|| format!("open layer {}", layer.display()))?;
        set_attr(tree.as_fd(), false, &mapped(user)).doing(|| {
            format!(
                "map the ids of layer {} (can its file system be idmapped?)",
                layer.display()
            )
        })?;
        Ok(tree)
    };
    lower.iter().map(one).collect()
}

/// What maps a mount's ids.
pub(crate) fn mapped(user: &UserNamespace) -> MountAttr {
    use std::os::fd::AsRawFd;
    MountAttr {
        set: attr::IDMAP,
        userns_fd: user.as_fd().as_raw_fd() as u64,
        ..MountAttr::default()
    }
}

/// Makes the upper directory belong to whom the root directory of the image belongs to, as the
/// container sees it. An owner without an id on the host stays the host's.
fn give(lower: &[PathBuf], upper: &Path, user: &UserNamespace) -> Result<(), Error> {
    let Some(image) = lower.first() else {
        return Ok(());
    };
    let owner = std::fs::metadata(image).doing(|| format!("stat layer {}", image.display()))?;
    let (uid, gid) = (
        user.mappings().host_uid(owner.uid()).map(Uid::from_raw),
        user.mappings().host_gid(owner.gid()).map(Gid::from_raw),
    );
    chown(upper, uid, gid).doing(|| format!("give {} to the container", upper.display()))
}

/// An overlay to be, with its lower layers; `None`: this kernel takes none of detached mounts, and
/// before 6.13 none by descriptor.
fn start(layers: &[OwnedFd]) -> Result<Option<OwnedFd>, Error> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).doing(|| "open file system overlay")?;
    for layer in layers {
        match fsconfig_set_fd(&fs, "lowerdir+", layer) {
            Err(Errno::BADF | Errno::INVAL) => return Ok(None),
            done => done.doing(|| "overlay: add a mapped layer")?,
        }
    }
    Ok(Some(fs))
}

/// The overlay of layers that are attached nowhere.
fn detached(
    fs: BorrowedFd<'_>,
    upper: &Path,
    work: &Path,
    label: MountLabel<'_>,
) -> Result<OwnedFd, Error> {
    label.configure(fs)?;
    fsconfig_set_flag(fs, super::VOLATILE).doing(|| "overlay: set volatile")?;
    let mut opened = Vec::new();
    super::set_path(fs, "upperdir", upper, &mut opened)?;
    super::set_path(fs, "workdir", work, &mut opened)?;
    fsconfig_create(fs).map_err(|e| {
        let what = format!("make the overlay on {}", upper.display());
        Error::system(super::explained(fs, what), e)
    })?;
    fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .doing(|| format!("mount the overlay on {}", upper.display()))
}

/// Attaches each layer over itself in a new mount namespace.
fn stage(layers: &[OwnedFd], lower: &[PathBuf]) -> Result<(), Error> {
    namespace::unshare(Namespaces::NEWNS)?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).doing(|| "make the host's mounts slaves")?;
    for (layer, path) in layers.iter().zip(lower) {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(layer, "", CWD, path, flags)
            .doing(|| format!("stage layer {}", path.display()))?;
    }
    Ok(())
}
