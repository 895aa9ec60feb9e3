//! A root file system at a path, for another runtime, which is told one in its bundle.
//!
//! It is mounted in a mount namespace of its own, in which that runtime is started: the host's
//! mount table does not grow, and when the container has its own copy of the mounts and the
//! runtime has ended, the namespace is gone with all that was mounted in it. Mounts that a
//! configuration cannot say to another runtime (layers of images, memory shared by a pod) are made
//! there too, for bind mounts to show.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat};

use crate::Error;
use crate::error::Doing;
use crate::mount::{self, ImageVolume, MountLabel};
use crate::namespace::{self, Namespaces};
use crate::oci_spec::runtime::Mount;
use crate::rootfs::{self, Rootfs};
use crate::shm::{Shm, elsewhere};
use crate::user_namespace::UserNamespace;

/// What is to be mounted, and where.
#[derive(Debug)]
pub struct Stage<'a> {
    /// Root file system.
    pub rootfs: &'a Rootfs,
    /// The directory that it goes over.
    pub root: &'a Path,
    /// Mounts of a configuration, each with a path that does not exist, in a directory that does.
    /// Their destinations mean nothing here but for images.
    pub mounts: &'a [(Mount, PathBuf)],
    /// What a tmpfs at /dev/shm is.
    pub shm: Option<&'a Shm>,
    /// What mounts of type `image` show.
    pub images: &'a [ImageVolume],
    /// Whose ids the layers are mapped to; `None`: the host's.
    pub user_namespace: Option<&'a UserNamespace>,
    /// SELinux label of everything that is mounted.
    pub label: MountLabel<'a>,
}

impl Stage<'_> {
    /// Mounts everything and has `body` start whatever is to see it. The caller, which has one
    /// thread, is back in its own mount namespace afterwards.
    pub fn enter<T>(&self, body: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let mut served = Vec::new();
        let root = rootfs::prepare(self.rootfs, self.user_namespace, self.label, &mut served)?;
        let (mounts, places): (Vec<_>, Vec<_>) = self.mounts.iter().cloned().unzip();
        let user = self.user_namespace;
        let mounts = mount::prepare(
            &mounts,
            self.shm,
            self.images,
            user,
            self.label,
            &mut served,
        )?;
        elsewhere(|| {
            namespace::unshare(Namespaces::NEWNS)?;
            let root = root.attach(Some(self.root))?;
            for (mount, place) in mounts.iter().zip(&places) {
                let at = make_place(mount, place)?;
                mount::attach_over(mount, at.as_fd(), root.as_fd())?;
            }
            body()
        })
    }
}

/// A file for a file and a directory for everything else.
fn make_place(mount: &mount::Mount, place: &Path) -> Result<OwnedFd, Error> {
    let doing = || format!("make mount point {}", place.display());
    let source = mount.fds().last();
    let is_file = match source {
        Some(fd) => FileType::from_raw_mode(fstat(fd).doing(doing)?.st_mode) != FileType::Directory,
        None => false,
    };
    if is_file {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::open(place, flags, Mode::RUSR).doing(doing)?;
    } else {
        rustix::fs::mkdir(place, Mode::RWXU).doing(doing)?;
    }
    rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).doing(doing)
}
