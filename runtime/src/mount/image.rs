//! Image volumes: mounts of type `image`, whose content is that of an image (KEP-4639).
//!
//! The parent makes a detached mount of the layers, read-only by its nature or by its options. Of
//! an image of which only a part is wanted that part is found there, inside of the image whatever
//! links it holds.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, open_tree, unmount,
};

use super::idmap::{self, Idmap};
use super::options::Options;
use super::{MountLabel, What, attach_tree, copy_of, set_attributes};
use crate::Error;
use crate::error::Doing;
use crate::path;
use crate::rootfs::{FSCONFIG_STRING, add_lower, idmapped};

/// An image to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageVolume {
    /// The destination of the mount of type `image` that this is the content of.
    pub destination: PathBuf,
    /// Directories of the layers, uppermost first; at least one.
    pub layers: Vec<PathBuf>,
    /// The file or directory of the image to be mounted instead of its root.
    pub sub_path: Option<PathBuf>,
}

/// Makes the detached mount of the volume for `destination`.
pub(super) fn prepare(
    volumes: &[ImageVolume],
    destination: &Path,
    options: &Options,
    idmap: Option<&Idmap<'_>>,
    label: MountLabel<'_>,
    served: &mut Vec<OwnedFd>,
) -> Result<What, Error> {
    let shown = destination.display();
    let volume = volumes
        .iter()
        .find(|volume| volume.destination == destination)
        .ok_or_else(|| {
            let problem = "type image: there is no image for it";
            Error::invalid(format!("mounts ({shown})"), problem)
        })?;
    let mapped_already;
    let mut options = options;
    let tree = match &volume.layers[..] {
        [] => {
            let problem = "an image without layers has nothing to mount";
            return Err(Error::invalid(format!("mounts ({shown})"), problem));
        }
        [only] => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(CWD, only, flags)
                .doing(|| format!("mount {} at {shown}: open the layer", only.display()))?
        }
        layers => match idmap {
            None => overlay(layers, destination, label)?,
            Some(idmap) => {
                mapped_already = idmap::without(options);
                options = &mapped_already;
                let plain = || overlay(layers, destination, label);
                idmapped::read_only(layers, idmap.namespace(), label, served, plain)?
            }
        },
    };
    set_attributes(tree.as_fd(), options)
        .doing(|| format!("mount an image at {shown}: set attributes"))?;
    let part = volume.sub_path.as_deref().map(|sub_path| {
        path::open(tree.as_fd(), sub_path).doing(|| {
            let sub_path = sub_path.display();
            format!("mount an image at {shown}: find {sub_path} in it")
        })
    });
    Ok(What::Image {
        part: part.transpose()?,
        tree,
    })
}

fn overlay(
    layers: &[PathBuf],
    destination: &Path,
    label: MountLabel<'_>,
) -> Result<OwnedFd, Error> {
    let doing = || format!("mount an image at {}", destination.display());
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).doing(doing)?;
    label.configure(fs.as_fd())?;
    let mut opened = Vec::new();
    if !add_lower(fs.as_fd(), layers, &mut opened)? {
        // Before Linux 6.8 all layers are one string.
        for layer in layers {
            let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
            let fd = rustix::fs::open(layer, flags, rustix::fs::Mode::empty())
                .doing(|| format!("open layer {}", layer.display()))?;
            opened.push(fd);
        }
        let names: Vec<_> = opened.iter().map(|fd| path::of_fd(fd.as_fd())).collect();
        let names = names.join(":");
        if names.len() >= FSCONFIG_STRING {
            let field = format!("mounts ({})", destination.display());
            let problem = format!("an image of {} layers takes Linux 6.8", layers.len());
            return Err(Error::invalid(field, problem));
        }
        fsconfig_set_string(&fs, "lowerdir", names).doing(doing)?;
    }
    fsconfig_create(&fs).doing(doing)?;
    fsmount(
        &fs,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
    .doing(doing)
}

/// A detached mount of a part of `tree` alone. Before Linux 6.15 only what is attached can be
/// copied, so the whole is attached for that moment: over the container's root, where nobody is
/// yet to see it.
pub(super) fn only_part(
    tree: BorrowedFd<'_>,
    part: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
) -> rustix::io::Result<OwnedFd> {
    attach_tree(tree, root)?;
    let copy = copy_of(part);
    unmount(path::of_fd(tree), UnmountFlags::DETACH)?;
    copy
}
