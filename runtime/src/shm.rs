//! The tmpfs that the containers of a pod share at /dev/shm.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Uid, chownat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use crate::error::Doing;
use crate::mount::MountLabel;
use crate::namespace::{Namespaces, Saved};
use crate::{Error, mount, namespace, rootfs};

/// A tmpfs that is mounted nowhere on the host (nosuid, nodev, noexec; mode 1777). It lives as
/// long as this or a container that has it.
#[derive(Debug)]
pub struct Shm {
    mount: OwnedFd,
    /// Before Linux 6.15 only what is attached can be copied: there the tmpfs is the root of a
    /// mount namespace of its own, held here.
    staging: Option<Saved>,
}

impl Shm {
    /// A tmpfs of `size` bytes.
    pub fn new(size: u64) -> Result<Self, Error> {
        Self::labelled(size, MountLabel::default())
    }

    /// A tmpfs of `size` bytes with an SELinux label.
    pub fn labelled(size: u64, label: MountLabel<'_>) -> Result<Self, Error> {
        let mount = tmpfs(size, label)?;
        let staging = match mount::copy_of(mount.as_fd()) {
            Err(Errno::INVAL) => Some(stage(&mount)?),
            done => {
                done.doing(|| "copy the shared memory tmpfs")?;
                None
            }
        };
        Ok(Self { mount, staging })
    }

    /// Gives its root directory to root of a pod's user namespace, by the host's ids.
    pub fn give(&self, (uid, gid): (Uid, Gid)) -> Result<(), Error> {
        chownat(&self.mount, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
            .doing(|| "give the shared memory tmpfs to its user namespace")
    }

    /// A detached mount of the same tmpfs.
    pub(crate) fn copy(&self) -> Result<OwnedFd, Error> {
        let copy = || mount::copy_of(self.mount.as_fd()).doing(|| "copy the shared memory tmpfs");
        match &self.staging {
            None => copy(),
            Some(staging) => elsewhere(|| {
                staging.join(Namespaces::NEWNS)?;
                copy()
            }),
        }
    }
}

fn tmpfs(size: u64, label: MountLabel<'_>) -> Result<OwnedFd, Error> {
    let doing = || format!("make a shared memory tmpfs of {size} bytes");
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).doing(doing)?;
    label.configure(fs.as_fd())?;
    fsconfig_set_string(&fs, "mode", "1777").doing(doing)?;
    fsconfig_set_string(&fs, "size", size.to_string()).doing(doing)?;
    fsconfig_set_string(&fs, "source", "shm").doing(doing)?;
    fsconfig_create(&fs).doing(doing)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).doing(doing)
}

/// Makes a mount namespace in which there is nothing but the tmpfs.
fn stage(tmpfs: &OwnedFd) -> Result<Saved, Error> {
    elsewhere(|| {
        namespace::unshare(Namespaces::NEWNS)?;
        let staging = namespace::save(Namespaces::NEWNS)?;
        let tmpfs = tmpfs.try_clone().doing(|| "duplicate a descriptor")?;
        let root = rootfs::Root::Detached(tmpfs).attach(None)?;
        rootfs::enter(root.as_fd())?;
        Ok(staging)
    })
}

/// Does something that changes the caller's mount namespace, root and working directory, and
/// comes back.
pub(crate) fn elsewhere<T>(body: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let here = namespace::save(Namespaces::NEWNS)?;
    let cwd = rustix::fs::open(
        ".",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .doing(|| "open the working directory")?;
    let done = body();
    here.join(Namespaces::NEWNS)?;
    rustix::process::fchdir(&cwd).doing(|| "return to the working directory")?;
    done
}
