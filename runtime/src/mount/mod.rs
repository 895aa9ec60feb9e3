//! The mounts of a configuration.
//!
//! The parent [`prepare`]s them: bind sources become detached copies of their trees, taken in
//! the host's mount namespace, so that a shared volume stays a peer of the host's mount and a
//! missing source is an error of the call. The child [`attach`]es them inside the container's
//! root and makes new file systems there, where its own namespaces apply.

mod idmap;
mod image;
mod label;
pub(crate) mod options;
mod target;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::error::Doing;
use crate::oci_spec::runtime::Mount as SpecMount;
use crate::path;
use crate::shm::Shm;
use crate::sys::mount::{MountAttr, set_attr};
use crate::user_namespace::UserNamespace;
use crate::{Error, sys};
pub use image::ImageVolume;
pub use label::MountLabel;
pub(crate) use label::with_context;
use options::{Options, Propagation, attr};

/// A mount ready to be attached.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) destination: PathBuf,
    pub(crate) what: What,
    pub(crate) options: Options,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum What {
    /// A detached tree with its attributes set.
    Tree(OwnedFd),
    /// The detached tree of an image, and what of it is wanted if not all.
    Image {
        tree: OwnedFd,
        part: Option<OwnedFd>,
    },
    /// The /dev of a container with a user namespace, made with its nodes by the parent.
    Dev(OwnedFd),
    /// A new file system.
    New {
        /// Its type.
        kind: String,
        /// What /proc/mounts shows as its source.
        source: PathBuf,
        /// SELinux label of its files.
        label: Option<String>,
    },
}

impl Mount {
    /// The descriptors that the child needs.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let (tree, part) = match &self.what {
            What::Tree(tree) | What::Dev(tree) => (Some(tree), None),
            What::Image { tree, part } => (Some(tree), part.as_ref()),
            What::New { .. } => (None, None),
        };
        tree.into_iter().chain(part).map(AsFd::as_fd)
    }

    /// A mount of `kind`?
    pub(crate) fn is_new(&self, wanted: &str) -> bool {
        matches!(&self.what, What::New { kind, .. } if kind == wanted)
    }
}

/// Opens what has to be opened on the host. Mounts that have served are put to `served`, to be
/// closed when nobody waits.
pub(crate) fn prepare(
    mounts: &[SpecMount],
    shm: Option<&Shm>,
    images: &[ImageVolume],
    user: Option<&UserNamespace>,
    label: MountLabel<'_>,
    served: &mut Vec<OwnedFd>,
) -> Result<Vec<Mount>, Error> {
    mounts
        .iter()
        .map(|mount| prepare_one(mount, shm, images, user, label, served))
        .collect()
}

fn prepare_one(
    mount: &SpecMount,
    shm: Option<&Shm>,
    images: &[ImageVolume],
    user: Option<&UserNamespace>,
    label: MountLabel<'_>,
    served: &mut Vec<OwnedFd>,
) -> Result<Mount, Error> {
    let destination = mount.destination().clone();
    let name = destination.display().to_string();
    let mut options = options_of(mount)?;
    // Holds the namespace until the mount has its mapping.
    let idmap = idmap::of(mount, &options, user)?;
    if let Some(idmap) = &idmap {
        idmap.apply(&mut options);
    }
    let what = match (Asked::of(mount, &options)?, shm) {
        (Asked::Bind(source), _) => What::Tree(copy_tree(source, &options, &name)?),
        (Asked::Type("tmpfs"), Some(shm)) if destination == Path::new("/dev/shm") => {
            What::Tree(shm.copy()?)
        }
        (Asked::Type("image"), _) => image::prepare(
            images,
            &destination,
            &options,
            idmap.as_ref(),
            label,
            served,
        )?,
        (Asked::Type(kind), _) => What::New {
            label: label.for_new(kind, &options.data),
            // Version 2 is the only one there is here, whatever the configuration calls it.
            kind: if kind == "cgroup" {
                "cgroup2".into()
            } else {
                kind.to_owned()
            },
            source: mount
                .source()
                .clone()
                .unwrap_or_else(|| PathBuf::from(kind)),
        },
    };
    Ok(Mount {
        destination,
        what,
        options,
    })
}

/// What a configuration wants mounted.
enum Asked<'a> {
    /// What is there on the host.
    Bind(&'a Path),
    /// A new file system of a type, or what stands for one.
    Type(&'a str),
}

impl<'a> Asked<'a> {
    fn of(mount: &'a SpecMount, options: &Options) -> Result<Self, Error> {
        let problem = match (options.bind, mount.source(), mount.typ()) {
            (true, Some(source), _) => return Ok(Self::Bind(source)),
            (true, None, _) => "a bind mount without a source",
            (false, _, Some(kind)) if !kind.is_empty() => return Ok(Self::Type(kind)),
            (false, ..) => "neither a type nor bind",
        };
        let field = format!("mounts ({})", mount.destination().display());
        Err(Error::invalid(field, problem))
    }
}

/// Options of a mount that there can be.
fn options_of(mount: &SpecMount) -> Result<Options, Error> {
    let destination = mount.destination();
    if destination
        .components()
        .all(|c| c == std::path::Component::RootDir)
    {
        return Err(Error::invalid(
            "mounts",
            "a mount at / would hide the root file system",
        ));
    }
    let words = mount.options().as_deref().unwrap_or_default();
    let mut options = Options::parse(words, &destination.display().to_string())?;
    options.bind |= mount.typ().as_deref() == Some("bind");
    Ok(options)
}

/// Refuses mounts that there cannot be on any host.
#[cfg(feature = "oci")]
pub(crate) fn check(mounts: &[SpecMount]) -> Result<(), Error> {
    mounts.iter().try_for_each(|mount| {
        let options = options_of(mount)?;
        Asked::of(mount, &options).map(drop)
    })
}

fn copy_tree(source: &Path, options: &Options, destination: &str) -> Result<OwnedFd, Error> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if options.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, source, flags).doing(|| {
        format!(
            "bind mount {} at {destination}: open the source",
            source.display()
        )
    })?;
    set_attributes(tree.as_fd(), options).map_err(|e| {
        let what = format!("bind mount {} at {destination}:", source.display());
        Error::system(explained(what, options, &e), e)
    })?;
    Ok(tree)
}

/// Says what a mount whose ids are to be mapped may lack.
fn explained(what: String, options: &Options, error: &std::io::Error) -> String {
    let mapped = (options.attr.set | options.attr_recursive.set) & attr::IDMAP != 0;
    match error.raw_os_error() {
        Some(libc::EINVAL) if mapped => {
            format!("{what} map its ids (can its file system, and those below it, be idmapped?)")
        }
        Some(libc::EPERM) if mapped => {
            format!("{what} map its ids (are those of it, or of a mount below it, mapped already?)")
        }
        _ => format!("{what} set attributes"),
    }
}

/// Propagation and attributes of a copied tree, in as few calls as possible.
///
/// Without a word about propagation nothing is shared with the host. `private` or `slave`
/// without recursion still must not leave submounts shared, so these become slaves.
fn set_attributes(tree: BorrowedFd<'_>, options: &Options) -> std::io::Result<()> {
    let private = Propagation {
        kind: libc::MS_PRIVATE,
        recursive: true,
    };
    let propagation = options.propagation.unwrap_or(private);
    let mut whole = options.attr_recursive;
    let mut top = options.attr;
    // A volume that is read-only on the host stays so: plain "rw" promises nothing.
    top.clear &= !attr::RDONLY;
    if propagation.recursive || !options.recursive {
        whole.propagation = propagation.kind;
    } else {
        whole.propagation = libc::MS_SLAVE;
        top.propagation = propagation.kind;
    }
    if !options.recursive {
        let both = merge(whole, top);
        return set_attr(tree, false, &both);
    }
    set_attr(tree, true, &whole)?;
    if top != MountAttr::default() {
        set_attr(tree, false, &top)
    } else {
        Ok(())
    }
}

/// Both changes at once, for a tree of a single mount.
fn merge(whole: MountAttr, top: MountAttr) -> MountAttr {
    let atime = if top.clear & attr::ATIME != 0 {
        top.set
    } else {
        whole.set
    } & attr::ATIME;
    let set = ((whole.set & !top.clear) | top.set) & !attr::ATIME;
    MountAttr {
        set: set | atime,
        clear: (whole.clear | top.clear) & !set,
        propagation: whole.propagation.max(top.propagation),
        userns_fd: whole.userns_fd.max(top.userns_fd),
    }
}

/// Attaches a mount inside the container's root. A tmpfs stays writable for now, since mount
/// points and devices may have to be made in it: see [`finish`].
pub(crate) fn attach(mount: &Mount, root: BorrowedFd<'_>) -> Result<(), Error> {
    let target = target::open(mount, root)?;
    let done = attach_over(mount, target.as_fd(), root);
    sys::fd::leave_to_exec(target);
    done
}

/// Attaches a mount over `target`, which lies inside `root`.
pub(crate) fn attach_over(
    mount: &Mount,
    target: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), Error> {
    let doing = || format!("mount at {}", mount.destination.display());
    match &mount.what {
        What::Tree(tree) | What::Dev(tree) | What::Image { tree, part: None } => {
            attach_tree(tree.as_fd(), target).doing(doing)
        }
        What::Image {
            tree,
            part: Some(part),
        } => image::only_part(tree.as_fd(), part.as_fd(), root)
            .and_then(|part| attach_tree(part.as_fd(), target))
            .doing(doing),
        What::New {
            kind,
            source,
            label,
        } => {
            let mut flags = mount.options.mount_flags();
            if kind == "tmpfs" {
                flags -= rustix::mount::MountFlags::RDONLY;
            }
            let data = with_context(&mount.options.data, label.as_deref());
            let data = std::ffi::CString::new(data).map_err(|_| {
                Error::invalid(
                    format!("mounts ({})", mount.destination.display()),
                    "an option holds a zero byte",
                )
            })?;
            let data = (!data.is_empty()).then_some(data.as_c_str());
            rustix::mount::mount(source, path::of_fd(target), kind, flags, data)
                .doing(|| format!("mount {kind} at {}", mount.destination.display()))
        }
    }
}

/// The rest of a mount's options, once everything inside of it is made.
pub(crate) fn finish(mount: &Mount, root: BorrowedFd<'_>) -> Result<(), Error> {
    let tmpfs = match &mount.what {
        What::New { kind, .. } => kind == "tmpfs",
        What::Dev(_) => true,
        What::Tree(_) | What::Image { .. } => return Ok(()),
    };
    let mut top = MountAttr::default();
    if tmpfs && mount.options.read_only() {
        top.set = attr::RDONLY;
    }
    if let Some(propagation) = mount.options.propagation {
        top.propagation = propagation.kind;
    }
    let top = merge(mount.options.attr_recursive, top);
    if top == MountAttr::default() {
        return Ok(());
    }
    path::open(root, &mount.destination)
        .map_err(std::io::Error::from)
        .and_then(|fd| set_attr(fd.as_fd(), false, &top))
        .doing(|| {
            format!(
                "set attributes of the mount at {}",
                mount.destination.display()
            )
        })
}

/// Labels what the kernel does not mount with a label.
pub(crate) fn label(
    mount: &Mount,
    root: BorrowedFd<'_>,
    label: MountLabel<'_>,
) -> Result<(), Error> {
    if label == MountLabel::default() || !mount.is_new("mqueue") {
        return Ok(());
    }
    let mqueue = path::open(root, &mount.destination)
        .doing(|| format!("open {}", mount.destination.display()))?;
    let done = label.label_mqueue(mqueue.as_fd());
    sys::fd::leave_to_exec(mqueue);
    done
}

/// Moves a detached tree to where `target` is.
pub(crate) fn attach_tree(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags)
}

/// A detached, read-only mount of a file or directory of the host.
pub fn read_only_copy(path: &Path) -> Result<OwnedFd, Error> {
    let doing = || format!("make a read-only mount of {}", path.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, flags).doing(doing)?;
    make_read_only(tree.as_fd()).doing(doing)?;
    Ok(tree)
}

/// Makes one mount read-only.
pub(crate) fn make_read_only(mount: BorrowedFd<'_>) -> std::io::Result<()> {
    let read_only = MountAttr {
        set: attr::RDONLY,
        ..MountAttr::default()
    };
    set_attr(mount, false, &read_only)
}

/// A detached copy of what `source` is, not of what is mounted below it.
pub(crate) fn copy_of(source: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(source, "", flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_attributes_do_not_contradict() {
        let whole = MountAttr {
            set: attr::RDONLY | attr::NOATIME,
            clear: attr::ATIME,
            ..MountAttr::default()
        };
        let top = MountAttr {
            set: attr::NOSUID,
            clear: attr::RDONLY,
            propagation: 1,
            userns_fd: 0,
        };
        let both = merge(whole, top);
        assert_eq!(both.set, attr::NOSUID | attr::NOATIME);
        assert_eq!(both.clear, attr::ATIME | attr::RDONLY);
        assert_eq!(both.propagation, 1);
    }

    #[test]
    fn root_as_destination_and_missing_sources_are_refused_by_name() {
        let refused = |mount: &SpecMount| {
            let label = MountLabel::default();
            let mounts = std::slice::from_ref(mount);
            let prepared = prepare(mounts, None, &[], None, label, &mut Vec::new());
            prepared.unwrap_err().to_string()
        };
        let mut mount = SpecMount::default();
        mount.set_destination("/".into());
        assert!(refused(&mount).contains("mount at /"));
        mount.set_destination("/data".into());
        assert!(refused(&mount).contains("/data"));
        mount.set_options(Some(vec!["bind".into()]));
        assert!(refused(&mount).contains("without a source"));
    }
}
