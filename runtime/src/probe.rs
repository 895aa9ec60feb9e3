//! What this host can do for containers, which is tried: user namespaces, and read-only mounts with
//! everything below them.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, OpenTreeFlags, mount as mount_new, mount_change, open_tree,
};

use crate::child::{self, Status};
use crate::error::Doing;
use crate::mount::MountLabel;
use crate::mount::options::attr;
use crate::namespace::{self, Namespaces};
use crate::oci_spec::runtime::{LinuxIdMappingBuilder, Mount as SpecMount};
use crate::report::Report;
use crate::rootfs::{self, Root, Rootfs, idmapped};
use crate::shm::Shm;
use crate::sys::mount::{MountAttr, set_attr};
use crate::user_namespace::{self, IdMappings, Inside, Unmapped, UserNamespace};
use crate::{Error, mount, report, sys};

/// Makes a user namespace with namespaces of its own, an overlay of mapped layers in `directory`
/// (where the root file systems of containers are to be), a mapped tmpfs, and mounts /proc and
/// /sys inside. The caller is left in other namespaces than it was in; on disk nothing is left.
/// The error says what does not work.
pub fn user_namespaces(directory: &Path) -> Result<(), Error> {
    let scratch = directory.join(format!(".skiff-probe-{}", std::process::id()));
    let tried = try_in(&scratch);
    let removed = fs::remove_dir_all(&scratch).doing(|| format!("remove {}", scratch.display()));
    tried.and(removed)
}

/// A directory that is there and has nothing that is needed meanwhile.
const COVERED: &str = "/proc";

/// Makes a copy of a file system with another one mounted below it, read-only in one step, and looks
/// whether both are: what a mount with `rro` takes. The caller is left in a mount namespace of its
/// own, with another file system in the place of /proc. The error says what does not work.
pub fn recursive_read_only() -> Result<(), Error> {
    let directory = Path::new(COVERED);
    namespace::unshare(Namespaces::NEWNS)?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .doing(|| "make all mounts of a new namespace private")?;
    for path in [directory, &directory.join("below")] {
        if path != directory {
            fs::create_dir(path).doing(|| format!("make directory {}", path.display()))?;
        }
        mount_new("tmpfs", path, "tmpfs", MountFlags::empty(), None)
            .doing(|| format!("mount a tmpfs on {}", path.display()))?;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, directory, flags).doing(|| "copy a tree of mounts")?;
    let read_only = MountAttr {
        set: attr::RDONLY,
        ..MountAttr::default()
    };
    set_attr(tree.as_fd(), true, &read_only)
        .doing(|| "make a tree of mounts read-only (mount_setattr, Linux 5.12)")?;
    for path in ["file", "below/file"] {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        match openat(&tree, path, flags, Mode::RUSR) {
            Err(Errno::ROFS) => {}
            Err(e) => return Err(Error::system(format!("make {path} in it"), e)),
            Ok(_) => {
                let problem = "could be written in a tree of mounts that is read-only";
                return Err(Error::invalid(path, problem));
            }
        }
    }
    Ok(())
}

fn try_in(scratch: &Path) -> Result<(), Error> {
    let (lower, upper, work) = (
        scratch.join("lower"),
        scratch.join("upper"),
        scratch.join("work"),
    );
    for path in [&lower.join("proc"), &lower.join("sys"), &upper, &work] {
        fs::create_dir_all(path).doing(|| format!("make directory {}", path.display()))?;
    }
    let mapping = LinuxIdMappingBuilder::default()
        .container_id(0u32)
        .host_id(65_536u32)
        .size(65_536u32)
        .build()
        .map_err(|e| Error::invalid("user namespace", e.to_string()))?;
    let ids = IdMappings {
        uid: vec![mapping],
        gid: vec![mapping],
    };
    let kinds = Namespaces::NEWNET | Namespaces::NEWIPC | Namespaces::NEWUTS;
    let (user, belongings) = Unmapped::new(kinds)?.map(ids)?;
    belongings.give(user.mappings())?;
    let lower = vec![lower];
    let rootfs = Rootfs::Overlay { lower, upper, work };
    let root = rootfs::prepare(&rootfs, Some(&user), MountLabel::default(), &mut Vec::new())?;
    let shm = Shm::new(4096)?.copy()?;
    set_attr(shm.as_fd(), false, &idmapped::mapped(&user))
        .doing(|| "map the ids of a tmpfs (Linux 6.3)")?;
    mount_inside(&user, root)
}

/// What the kernel only allows where nothing of the host's is hidden.
fn mount_inside(user: &UserNamespace, root: Root) -> Result<(), Error> {
    let kernel = |kind: &str| {
        let mut mount = SpecMount::default();
        mount.set_destination(Path::new("/").join(kind.trim_end_matches("fs")));
        mount.set_typ(Some(kind.to_owned()));
        mount
    };
    let mounts = [kernel("proc"), kernel("sysfs")];
    let mounts = mount::prepare(
        &mounts,
        None,
        &[],
        Some(user),
        MountLabel::default(),
        &mut Vec::new(),
    )?;
    let (ours, theirs) = report::pair().doing(|| "make a socket pair")?;
    let status = Status(theirs);
    let inside = Inside {
        ours: ours.as_fd(),
        status: &status,
        enter: || user.join(),
        namespaces: Namespaces::NEWNS | Namespaces::NEWPID,
        cgroup: None,
    };
    let child = inside.clone(|| {
        child::run(&status, || {
            user_namespace::become_root()?;
            let root = root.attach(None)?;
            mounts
                .iter()
                .try_for_each(|mount| mount::attach(mount, root.as_fd()))?;
            status.say(&Report::Ready(None));
            sys::process::exit(0)
        })
    })?;
    drop(status);
    let said = user_namespace::next_report(ours.as_fd());
    user_namespace::reap(&child)?;
    match said? {
        Report::Failed(failure) => Err(Error::Child(failure)),
        _ => Ok(()),
    }
}
