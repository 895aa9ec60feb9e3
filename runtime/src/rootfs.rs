//! The root file system: a detached mount made by the parent, attached and entered by the child.

pub(crate) mod idmapped;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, move_mount, open_tree,
};

use crate::Error;
use crate::error::Doing;
use crate::mount::options::{Propagation, attr};
use crate::mount::{MountLabel, with_context};
use crate::oci_spec::runtime::Linux;
use crate::sys::mount::{MountAttr, set_attr};
use crate::user_namespace::UserNamespace;

/// Layers that make a root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// An overlay, made as a detached mount.
    Overlay {
        /// Lower directories, uppermost first; at least one.
        lower: Vec<PathBuf>,
        /// Upper directory.
        upper: PathBuf,
        /// Work directory, empty, on the file system of `upper`. Good for one mount: the
        /// kernel refuses it afterwards, since the overlay is volatile.
        work: PathBuf,
    },
    /// A directory, bind-mounted with what is mounted below it.
    Directory(PathBuf),
}

/// A root file system on its way from parent to child.
#[derive(Debug)]
pub(crate) enum Root {
    /// A detached mount.
    Detached(OwnedFd),
    /// Layers of an overlay that this kernel can only mount the old way, in the child.
    Classic {
        /// Lower directories, uppermost first.
        lower: Vec<PathBuf>,
        /// Upper directory, over which the mount goes.
        upper: PathBuf,
        /// Work directory.
        work: PathBuf,
        /// SELinux label of its files.
        label: Option<String>,
    },
}

/// Keeps an overlay from syncing the whole file system of its upper directory when it goes: that
/// is when the container's last process ends, whose exit would wait for the disk. What a power
/// cut may take is the writable layer of a container that the same power cut has ended.
const VOLATILE: &str = "volatile";

/// Longest string that fsconfig takes, in bytes, with its end.
pub(crate) const FSCONFIG_STRING: usize = 256;

/// Makes the detached mount. In the parent, where the layers' paths mean something whatever
/// becomes of the child's user. An overlay's layers are mapped into the user namespace; a
/// directory, as the runtime-spec has it, belongs to its users already. Mounts that have served are
/// put to `served`, to be closed when nobody waits.
pub(crate) fn prepare(
    rootfs: &Rootfs,
    user: Option<&UserNamespace>,
    label: MountLabel<'_>,
    served: &mut Vec<OwnedFd>,
) -> Result<Root, Error> {
    match rootfs {
        Rootfs::Directory(path) => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            let tree = open_tree(CWD, path, flags)
                .doing(|| format!("open root directory {}", path.display()))?;
            let private = MountAttr {
                propagation: libc::MS_PRIVATE,
                ..MountAttr::default()
            };
            set_attr(tree.as_fd(), true, &private)
                .doing(|| format!("make the mounts of {} private", path.display()))?;
            Ok(Root::Detached(tree))
        }
        Rootfs::Overlay { lower, upper, work } => {
            if lower.is_empty() {
                return Err(Error::invalid(
                    "root",
                    "an overlay without a lower directory",
                ));
            }
            if let Some(user) = user {
                let mount = idmapped::overlay(lower, upper, work, user, label, served)?;
                return Ok(Root::Detached(mount));
            }
            match overlay(lower, upper, work, label)? {
                Some(mount) => Ok(Root::Detached(mount)),
                None => Ok(Root::Classic {
                    lower: lower.clone(),
                    upper: upper.clone(),
                    work: work.clone(),
                    label: label.for_new("overlay", ""),
                }),
            }
        }
    }
}

/// `None`: this kernel takes no layers one by one (before 6.8).
fn overlay(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    label: MountLabel<'_>,
) -> Result<Option<OwnedFd>, Error> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).doing(|| "open file system overlay")?;
    label.configure(fs.as_fd())?;
    let mut opened = Vec::new();
    if !add_lower(fs.as_fd(), lower, &mut opened)? {
        return Ok(None);
    }
    fsconfig_set_flag(&fs, VOLATILE).doing(|| "overlay: set volatile")?;
    set_path(fs.as_fd(), "upperdir", upper, &mut opened)?;
    set_path(fs.as_fd(), "workdir", work, &mut opened)?;
    fsconfig_create(&fs).map_err(|e| {
        let what = format!("make the overlay on {}", upper.display());
        Error::system(explained(fs.as_fd(), what), e)
    })?;
    let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .doing(|| format!("mount the overlay on {}", upper.display()))?;
    Ok(Some(mount))
}

/// Gives the lower directories of an overlay one by one, uppermost first; `false`: this kernel
/// takes none that way (before 6.8). What is put into `opened` must live until the overlay is made.
pub(crate) fn add_lower(
    fs: BorrowedFd<'_>,
    lower: &[PathBuf],
    opened: &mut Vec<OwnedFd>,
) -> Result<bool, Error> {
    for (index, layer) in lower.iter().enumerate() {
        match set_path(fs, "lowerdir+", layer, opened) {
            Err(Error::System { source, .. })
                if index == 0 && source.raw_os_error() == Some(libc::EINVAL) =>
            {
                return Ok(false);
            }
            done => done?,
        }
    }
    Ok(true)
}

fn set_path(
    fs: BorrowedFd<'_>,
    key: &str,
    path: &Path,
    opened: &mut Vec<OwnedFd>,
) -> Result<(), Error> {
    let doing = || format!("overlay: set {key} to {}", path.display());
    if path.as_os_str().len() < FSCONFIG_STRING {
        return fsconfig_set_string(fs, key, path).doing(doing);
    }
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).doing(doing)?;
    let short = crate::path::of_fd(fd.as_fd());
    opened.push(fd);
    fsconfig_set_string(fs, key, short.as_str()).doing(doing)
}

/// Adds what the kernel logged to the file system context.
fn explained(fs: BorrowedFd<'_>, what: String) -> String {
    let mut log = [0u8; 512];
    match rustix::io::read(fs, &mut log) {
        Ok(n) if n > 0 => {
            format!("{what} ({})", String::from_utf8_lossy(&log[..n]).trim_end())
        }
        _ => what,
    }
}

/// Options of mount(2) for an overlay, with layers named by descriptors, which the names are
/// good with: all options together must fit into a page. The descriptors must be opened in the
/// mount namespace in which the overlay is mounted.
fn classic_options(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
) -> Result<(String, Vec<OwnedFd>), Error> {
    let mut opened = Vec::new();
    let mut open = |path: &Path| {
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .doing(|| format!("open layer {}", path.display()))?;
        let name = crate::path::of_fd(fd.as_fd());
        opened.push(fd);
        Ok::<_, Error>(name)
    };
    let lower = lower
        .iter()
        .map(|layer| open(layer))
        .collect::<Result<Vec<_>, _>>()?
        .join(":");
    let (upper, work) = (open(upper)?, open(work)?);
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work},{VOLATILE}");
    Ok((options, opened))
}

impl Root {
    /// The descriptor that the child needs.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Detached(mount) => Some(mount.as_fd()),
            Self::Classic { .. } => None,
        }
    }

    /// Attaches the root in the child's mount namespace, over its present root directory or, if
    /// given, at `place`, and returns a descriptor of it.
    ///
    /// Every mount inherited from the host becomes a slave first: it still follows the host
    /// (an unmount there must not find us holding a copy), but nothing goes back.
    pub(crate) fn attach(self, place: Option<&Path>) -> Result<OwnedFd, Error> {
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", slave).doing(|| "make the host's mounts slaves")?;
        match self {
            Self::Detached(mount) => {
                let place = place.unwrap_or(Path::new("/"));
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                move_mount(&mount, "", CWD, place, flags)
                    .doing(|| format!("attach the root file system at {}", place.display()))?;
                Ok(mount)
            }
            Self::Classic {
                lower,
                upper,
                work,
                label,
            } => {
                let place = place.unwrap_or(&upper);
                let (options, _opened) = classic_options(&lower, &upper, &work)?;
                let options = with_context(&options, label.as_deref());
                let options = std::ffi::CString::new(options)
                    .map_err(|_| Error::invalid("root", "zero byte in a path"))?;
                rustix::mount::mount("overlay", place, "overlay", MountFlags::empty(), &*options)
                    .doing(|| format!("mount the overlay at {}", place.display()))?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(place, flags, Mode::empty())
                    .doing(|| format!("open {}", place.display()))
            }
        }
    }
}

/// Makes `root` the root directory and lets go of the host's mounts.
pub(crate) fn enter(root: BorrowedFd<'_>) -> Result<(), Error> {
    rustix::process::fchdir(root).doing(|| "enter the root file system")?;
    // With both names the same, the old root ends up on top of the new one, from where the
    // unmount of "." takes it away: see pivot_root(2).
    rustix::process::pivot_root(".", ".").map_err(|e| {
        let hint = if e == Errno::INVAL {
            "pivot_root (is the root of this mount namespace a mount, and not the initramfs?)"
        } else {
            "pivot_root"
        };
        Error::system(hint, e)
    })?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing(|| "let go of the host's mounts")
}

/// Makes the root mount read-only; what is mounted inside keeps its own attributes.
pub(crate) fn make_read_only(root: BorrowedFd<'_>) -> Result<(), Error> {
    let attr = MountAttr {
        set: attr::RDONLY,
        ..MountAttr::default()
    };
    set_attr(root, false, &attr).doing(|| "make the root file system read-only")
}

/// `linux.rootfsPropagation`.
pub(crate) fn propagation(linux: &Linux) -> Result<Option<Propagation>, Error> {
    let word = linux.rootfs_propagation().as_deref();
    let parsed = |word| {
        Propagation::parse(word).ok_or_else(|| {
            Error::invalid("linux.rootfsPropagation", format!("{word:?} is unknown"))
        })
    };
    word.map(parsed).transpose()
}

/// Applies `linux.rootfsPropagation` to the root mount. After [`enter`], since a shared mount
/// cannot be pivoted to.
pub(crate) fn set_propagation(root: BorrowedFd<'_>, propagation: Propagation) -> Result<(), Error> {
    let attr = MountAttr {
        propagation: propagation.kind,
        ..MountAttr::default()
    };
    set_attr(root, propagation.recursive, &attr)
        .doing(|| "set the propagation of the root file system")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_options_name_layers_by_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let (options, opened) =
            classic_options(&[path.clone(), path.clone()], &path, &path).unwrap();
        let fds: Vec<String> = opened
            .iter()
            .map(|fd| crate::path::of_fd(fd.as_fd()))
            .collect();
        let [one, two, upper, work] = &fds[..] else {
            panic!("{fds:?}")
        };
        let expected = format!("lowerdir={one}:{two},upperdir={upper},workdir={work},volatile");
        assert_eq!(options, expected);
    }

    #[test]
    fn missing_layer_and_empty_overlay_are_errors_with_the_path() {
        let missing = PathBuf::from("/no/such/layer");
        let error =
            classic_options(std::slice::from_ref(&missing), &missing, &missing).unwrap_err();
        assert!(error.to_string().contains("/no/such/layer"));
        let none = Rootfs::Overlay {
            lower: vec![],
            upper: missing.clone(),
            work: missing,
        };
        assert!(prepare(&none, None, MountLabel::default(), &mut Vec::new()).is_err());
    }
}
