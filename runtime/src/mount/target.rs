//! Where a mount goes: a file or directory inside the root, held by descriptor, so that it is the
//! same one when the mount comes, whatever happens to its name meanwhile (CVE-2021-30465).
//!
//! Nothing but a proc goes to /proc, and nothing but single, harmless files into it: what later
//! protects the container (masked paths, labels, limits) is written to files there and would
//! otherwise go to a file of the volume's author (CVE-2019-16884, CVE-2023-27561).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{PROC_SUPER_MAGIC, fstatfs};
use rustix::io::Errno;

use super::{Mount, What};
use crate::Error;
use crate::error::Doing;
use crate::path::{self, Kind};

/// Files of /proc that may be mounted over: those that tools replace by a container's own view.
const OVER_PROC: &[&str] = &[
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "net/dev",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// Opens the mount point, made when it is missing.
pub(super) fn open(mount: &Mount, root: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let destination = &mount.destination;
    let kind = || match &mount.what {
        What::New { .. } | What::Dev(_) => Ok(Kind::Directory),
        What::Tree(source)
        | What::Image {
            part: Some(source), ..
        }
        | What::Image { tree: source, .. } => {
            path::kind_of(source).doing(|| "stat the source of a mount")
        }
    };
    if mount.is_new("proc") || mount.is_new("sysfs") {
        return open_own(root, destination, kind);
    }
    if let Some(below) = below_proc(destination)
        && !OVER_PROC.iter().any(|name| below == Path::new(name))
    {
        return Err(refused(destination));
    }
    if !destination.components().any(|c| c == Component::ParentDir)
        && let Some(target) = path::open_or_create_straight(root, destination, kind)?
    {
        return Ok(target);
    }
    // A link may lead anywhere inside of the root.
    let target = path::open_or_create(root, destination, kind)?;
    let found = fstatfs(&target).doing(|| format!("look at {}", destination.display()))?;
    if found.f_type == PROC_SUPER_MAGIC && below_proc(destination).is_none() {
        return Err(refused(destination));
    }
    Ok(target)
}

/// /proc and /sys must be where their names say: what masks them later goes by name.
fn open_own(
    root: BorrowedFd<'_>,
    destination: &Path,
    kind: impl FnOnce() -> Result<Kind, Error>,
) -> Result<OwnedFd, Error> {
    match path::open_strictly(root, destination) {
        Err(Errno::NOENT) => path::open_or_create(root, destination, kind),
        done => done.doing(|| {
            format!(
                "mount at {}, which is no ordinary directory",
                destination.display()
            )
        }),
    }
}

/// What follows /proc in a path: nothing for /proc itself. `None`: it does not lead there, unless
/// by links.
fn below_proc(destination: &Path) -> Option<&Path> {
    let mut components = destination.components();
    while matches!(
        components.clone().next()?,
        Component::RootDir | Component::CurDir
    ) {
        components.next();
    }
    components.as_path().strip_prefix("proc").ok()
}

fn refused(destination: &Path) -> Error {
    Error::invalid(
        format!("mounts ({})", destination.display()),
        "a mount there would take the place of what the kernel says in /proc",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_told_from_what_looks_like_it() {
        let below = |path| below_proc(Path::new(path)).map(|below| below.to_str().unwrap());
        assert_eq!(below("/proc"), Some(""));
        assert_eq!(below("//proc/"), Some(""));
        assert_eq!(below("/./proc/./sys"), Some("sys"));
        assert_eq!(below("proc/meminfo"), Some("meminfo"));
        assert_eq!(below("/procs"), None);
        assert_eq!(below("/host/proc"), None);
        assert_eq!(below("/"), None);
    }
}
