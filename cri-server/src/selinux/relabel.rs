//! Writes the labels of a volume: of a file, or of a directory with everything in it.
//!
//! What is named may be full of what a hostile container made, and be changed meanwhile: from the
//! volume's own directory on everything goes by descriptor, and no link is followed. A label is read
//! first and written only where it is another, so that nothing is written to a volume that has it.
//! Nor is a mount point crossed below the volume's own directory: what is mounted there is somebody
//! else's, and may be the host's.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    Dir, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags, fstat, getxattr, openat, openat2,
    setxattr, stat,
};
use rustix::io::Errno;

/// The attribute that a file's label is.
const ATTRIBUTE: &str = "security.selinux";
/// Longest label that is compared, in bytes.
const LONGEST: usize = 4096;
/// Deepest directory of a volume, counted from its own: each on the way is held open.
const DEEPEST: usize = 1024;

/// Directories in which the host has what it needs, beside what may be a pod's.
const OF_THE_SYSTEM: [&str; 23] = [
    "/",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/run",
    "/run/skiff",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/local",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/lib/kubelet",
    "/var/lib/kubelet/pods",
    "/var/lib/skiff",
    "/var/log",
    "/var/log/containers",
    "/var/log/pods",
    "/var/spool",
    "/var/tmp",
];
/// Directories with nothing that could be a pod's.
const WHOLLY_OF_THE_SYSTEM: [&str; 19] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/libx32",
    "/usr/sbin",
];

/// Why a volume could not be relabelled.
#[derive(Debug, thiserror::Error)]
pub enum RelabelError {
    /// The host needs its labels.
    #[error(
        "{} belongs to the system, and with labels of a pod the host would not work; mount a \
         directory of the pod's own instead", .0.display()
    )]
    System(PathBuf),
    /// A directory lies too deep.
    #[error("{}: more than {DEEPEST} directories one in another", .0.display())]
    Depth(PathBuf),
    /// The file system refused.
    #[error("{action} {}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path, errno: Errno) -> RelabelError {
    RelabelError::File {
        action,
        path: path.into(),
        source: errno.into(),
    }
}

/// Gives what is at `path`, a link followed, and everything below it the label. A file system that
/// has no labels, or was mounted with one for all its files, stays as it is.
pub fn relabel(path: &Path, label: &str) -> Result<(), RelabelError> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let top = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed("open", path, e))?;
    let name = format!("/proc/self/fd/{}", top.as_raw_fd());
    let real = std::fs::read_link(&name).map_err(|source| RelabelError::File {
        action: "find the real path of",
        path: path.into(),
        source,
    })?;
    refuse_system(&real)?;
    let of_the_system = OfTheSystem::find();
    let file = fstat(&top).map_err(|e| failed("stat", path, e))?;
    of_the_system.refuse(&file, &real)?;
    match set(name.as_str(), label) {
        Ok(()) if is_directory(&file) => {}
        Ok(()) => return Ok(()),
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(failed("label", path, e)),
    }
    let directory = open(&top, c".").map_err(|e| failed("open", path, e))?;
    below(directory, path.to_owned(), label, &of_the_system)
}

/// Gives one file the label.
pub fn label_file(path: &Path, label: &str) -> Result<(), RelabelError> {
    match set(path, label) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(e) => Err(failed("label", path, e)),
    }
}

fn refuse_system(path: &Path) -> Result<(), RelabelError> {
    let is_home = path.parent() == Some(Path::new("/home"));
    let is_within = |of: &&str| path.starts_with(of);
    let is_one = |of: &&str| path == Path::new(of);
    if is_home || OF_THE_SYSTEM.iter().any(is_one) || WHOLLY_OF_THE_SYSTEM.iter().any(is_within) {
        return Err(RelabelError::System(path.into()));
    }
    Ok(())
}

/// The directories in question, which may be found by other ways, too: bound elsewhere, or below the
/// volume.
struct OfTheSystem(HashSet<(u64, u64)>);

impl OfTheSystem {
    fn find() -> Self {
        let paths = OF_THE_SYSTEM.iter().chain(&WHOLLY_OF_THE_SYSTEM);
        let found = paths.filter_map(|path| stat(*path).ok());
        Self(found.map(|file| (file.st_dev, file.st_ino)).collect())
    }

    fn refuse(&self, file: &Stat, path: &Path) -> Result<(), RelabelError> {
        if self.0.contains(&(file.st_dev, file.st_ino)) {
            return Err(RelabelError::System(path.into()));
        }
        Ok(())
    }
}

fn is_directory(file: &Stat) -> bool {
    FileType::from_raw_mode(file.st_mode) == FileType::Directory
}

/// A directory that is gone through, and the descriptor by which its entries are reached.
struct Open {
    entries: Dir,
    fd: OwnedFd,
}

fn open(parent: &OwnedFd, name: &CStr) -> rustix::io::Result<Open> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(parent, name, flags | OFlags::NONBLOCK, Mode::empty())?;
    Ok(Open {
        entries: Dir::read_from(&fd)?,
        fd,
    })
}

/// Everything below a directory; `path` is its name for messages.
fn below(
    directory: Open,
    mut path: PathBuf,
    label: &str,
    of_the_system: &OfTheSystem,
) -> Result<(), RelabelError> {
    let mut open_ones = vec![directory];
    while let Some(Open { entries, fd }) = open_ones.last_mut() {
        let Some(entry) = entries.next() else {
            open_ones.pop();
            path.pop();
            continue;
        };
        let entry = entry.map_err(|e| failed("read", &path, e))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        path.push(OsStr::from_bytes(name.to_bytes()));
        let look = look(fd, name).map_err(|e| failed("open", &path, e))?;
        if let Some((_, file)) = &look {
            of_the_system.refuse(file, &path)?;
        }
        match look.map_or(Ok(None), |(entry, file)| one(&entry, &file, label)) {
            Ok(None) => {
                path.pop();
            }
            Ok(Some(_)) if open_ones.len() >= DEEPEST => return Err(RelabelError::Depth(path)),
            Ok(Some(directory)) => open_ones.push(directory),
            Err(e) => return Err(failed("label", &path, e)),
        }
    }
    Ok(())
}

/// An entry of a directory, be it a link; `None` for one that has gone, and for a mount point.
fn look(parent: &OwnedFd, name: &CStr) -> rustix::io::Result<Option<(OwnedFd, Stat)>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(parent, name, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
        Ok(entry) => {
            let file = fstat(&entry)?;
            Ok(Some((entry, file)))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Labels an entry of a directory; what is returned is to be gone through.
fn one(entry: &OwnedFd, file: &Stat, label: &str) -> rustix::io::Result<Option<Open>> {
    // The path leads to the entry itself, also to a link.
    let path = format!("/proc/self/fd/{}", entry.as_raw_fd());
    match set(path.as_str(), label) {
        Ok(()) if is_directory(file) => open(entry, c".").map(Some),
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Labels what a path leads to.
fn set(path: impl rustix::path::Arg + Copy, label: &str) -> rustix::io::Result<()> {
    let mut present = [0; LONGEST];
    let read = getxattr(path, ATTRIBUTE, &mut present);
    if is_right(read, &present, label)? {
        return Ok(());
    }
    setxattr(path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty())
}

fn is_right(
    read: rustix::io::Result<usize>,
    present: &[u8],
    label: &str,
) -> rustix::io::Result<bool> {
    match read {
        Ok(length) => {
            let present = &present[..length];
            Ok(present.strip_suffix(b"\0").unwrap_or(present) == label.as_bytes())
        }
        Err(Errno::NODATA | Errno::RANGE) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_the_system_are_refused_by_their_real_paths() {
        for path in [
            "/",
            "/etc",
            "/etc/kubernetes",
            "/usr",
            "/home",
            "/home/ann",
            "/var/lib",
            "/proc/self",
            "/root/.ssh",
            "/var/log",
            "/var/lib/skiff",
            "/var/lib/kubelet/pods",
        ] {
            let error = refuse_system(Path::new(path)).unwrap_err().to_string();
            assert!(error.starts_with(path), "{error}");
        }
        for path in [
            "/var/lib/kubelet/pods/x/volumes/y",
            "/home/ann/data",
            "/srv/www",
            "/usr/share/data",
            "/mnt/disk",
        ] {
            assert!(refuse_system(Path::new(path)).is_ok(), "{path}");
        }
        let error = OfTheSystem::find().refuse(&stat("/etc/").unwrap(), Path::new("/mnt/etc"));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("/mnt/etc belongs"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        let error = relabel(&link, "u:r:t").unwrap_err().to_string();
        assert!(error.starts_with("/etc belongs"), "{error}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = relabel(Path::new("/var/tmp/no/such/volume"), "u:r:t").unwrap_err();
        assert_eq!(error.to_string(), "open /var/tmp/no/such/volume");
    }
}
