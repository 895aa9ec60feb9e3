//! What has an owner in namespaces that are made before their user namespace has ids.
//!
//! The kernel gives some files of a new network or IPC namespace to root of its user namespace when
//! it makes them. While that root is nobody they go to the host's root, and stay there: the root of
//! the message queues, and files of /proc/net that only root may read, without which
//! iptables-save(8) or the list of tracked connections end in an error. So they are looked for ahead
//! and given away once there is somebody. What is decided when it is asked for (capabilities,
//! sysctls) needs nothing. In /sys the files of `lo` stay nobody's; interfaces that come later
//! belong to the root they come to.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, chown, chownat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::IdMappings;
use crate::Error;
use crate::error::Doing;
use crate::namespace::Namespaces;

/// The caller's network namespace, by its files.
const NET: &str = "/proc/self/net";
/// A directory for each module of the kernel: one that is loaded adds its files to every network
/// namespace.
const MODULES: &str = "/sys/module";

/// Files of the caller's namespaces, and the end of the namespace's first process.
#[derive(Debug)]
#[must_use = "what is not given stays the host's"]
pub struct Belongings {
    /// The message queues of its IPC namespace, mounted nowhere.
    queues: Option<OwnedFd>,
    net: Option<Net>,
    /// The first process ends when this is closed.
    _first: OwnedFd,
}

#[derive(Debug)]
struct Net {
    files: Vec<PathBuf>,
    /// How many modules there were when they were looked for.
    modules: Option<u64>,
}

impl Belongings {
    /// Looks for those of the caller's new namespaces.
    pub(super) fn find(kinds: Namespaces, first: OwnedFd) -> Result<Self, Error> {
        let queues = match kinds.contains(Namespaces::NEWIPC) {
            true => queues()?,
            false => None,
        };
        let net = match kinds.contains(Namespaces::NEWNET) {
            true => Some(Net::find()?),
            false => None,
        };
        Ok(Self {
            queues,
            net,
            _first: first,
        })
    }

    /// There is something to give.
    pub(super) fn are_there(&self) -> bool {
        self.queues.is_some() || self.net.is_some()
    }

    /// Leaves out the files of a network that the caller is not in any more.
    pub fn without_network(self) -> Self {
        Self { net: None, ..self }
    }

    /// Gives them to the namespace's root; the caller is still in those namespaces.
    pub fn give(self, mappings: &IdMappings) -> Result<(), Error> {
        if !self.are_there() {
            return Ok(());
        }
        let (uid, gid) = mappings.root()?;
        if let Some(queues) = &self.queues {
            chownat(queues, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
                .doing(|| "give the message queues to their user namespace")?;
        }
        let Some(net) = self.net else { return Ok(()) };
        for file in net.up_to_date()?.files {
            match chown(&file, Some(uid), Some(gid)) {
                // With its module, meanwhile.
                Err(rustix::io::Errno::NOENT) => {}
                done => done.doing(|| format!("give {} to its user namespace", file.display()))?,
            }
        }
        Ok(())
    }
}

impl Net {
    fn find() -> Result<Self, Error> {
        let modules = modules();
        let mut files = Vec::new();
        closed_files(Path::new(NET), &mut files).doing(|| format!("look through {NET}"))?;
        Ok(Self { files, modules })
    }

    fn up_to_date(self) -> Result<Self, Error> {
        match modules() == self.modules {
            true => Ok(self),
            false => Self::find(),
        }
    }
}

/// How many modules there are, or `None` in a kernel without.
fn modules() -> Option<u64> {
    fs::metadata(MODULES)
        .ok()
        .map(|directory| directory.nlink())
}

/// Files below a directory that are not for everybody.
fn closed_files(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    const OTHERS: u32 = 0o007;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            // With its module, meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        if metadata.is_dir() {
            closed_files(&entry.path(), files)?;
        } else if metadata.is_file() && metadata.mode() & OTHERS == 0 {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The root of the message queues; `None` in a kernel without.
fn queues() -> Result<Option<OwnedFd>, Error> {
    let fs = match fsopen("mqueue", FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(rustix::io::Errno::NODEV) => return Ok(None),
        fs => fs.doing(|| "open file system mqueue")?,
    };
    let mount = fsconfig_create(&fs)
        .and_then(|()| fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()));
    mount.map(Some).doing(|| "mount the message queues")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_files_that_are_not_for_everybody_are_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        fs::create_dir(dir.path().join("netfilter")).unwrap();
        make("tcp", 0o444);
        let names = make("ip_tables_names", 0o440);
        let log = make("netfilter/nfnetlink_log", 0o440);
        std::os::unix::fs::symlink(&names, dir.path().join("link")).unwrap();
        let mut found = Vec::new();
        closed_files(dir.path(), &mut found).unwrap();
        found.sort();
        assert_eq!(found, [names, log]);
    }
}
