//! File systems: overlay, idmapped mounts, free space.

use std::io;
use std::path::Path;

use rustix::fs::{statfs, statvfs};
use rustix::mount::{FsOpenFlags, fsconfig_set_string, fsopen};

use super::kernel::Version;

/// What overlayfs can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlay {
    /// Layers can be added one by one (`lowerdir+`, Linux 6.7): no limit of one page on all their
    /// paths together.
    pub layer_by_layer: bool,
}

/// Tries overlayfs by opening, not mounting, one.
pub fn overlay() -> Result<Overlay, String> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| e.to_string())?;
    Ok(Overlay {
        layer_by_layer: fsconfig_set_string(&fs, "lowerdir+", "/").is_ok(),
    })
}

/// A file system by its `f_type` (linux/magic.h) and the first kernel on which its mounts can be
/// idmapped (mount_setattr(2), NOTES); `None` when none can.
const KINDS: [(u64, &str, Option<Version>); 12] = [
    (
        0xef53,
        "ext4",
        Some(Version {
            major: 5,
            minor: 12,
        }),
    ),
    (
        0x5846_5342,
        "xfs",
        Some(Version {
            major: 5,
            minor: 12,
        }),
    ),
    (
        0x4d44,
        "vfat",
        Some(Version {
            major: 5,
            minor: 12,
        }),
    ),
    (
        0x9123_683e,
        "btrfs",
        Some(Version {
            major: 5,
            minor: 15,
        }),
    ),
    (
        0xf2f5_2010,
        "f2fs",
        Some(Version {
            major: 5,
            minor: 18,
        }),
    ),
    (
        0xe0f5_e1e2,
        "erofs",
        Some(Version {
            major: 5,
            minor: 19,
        }),
    ),
    (0x794c_7630, "overlay", None),
    (
        0x7371_7368,
        "squashfs",
        Some(Version { major: 6, minor: 2 }),
    ),
    (0x0102_1994, "tmpfs", Some(Version { major: 6, minor: 3 })),
    (0x00c3_6400, "ceph", Some(Version { major: 6, minor: 7 })),
    (0x2fc1_2fc1, "zfs", None),
    (0x6969, "nfs", None),
];

/// A file system that something is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its name; `None` when it is none of those known here.
    pub name: Option<&'static str>,
    /// Its mounts can be idmapped on the given kernel.
    pub idmapped: bool,
}

/// What file system a path is on.
pub fn kind(path: &Path, kernel: Version) -> io::Result<Kind> {
    Ok(kind_of(statfs(path)?.f_type as u64, kernel))
}

fn kind_of(magic: u64, kernel: Version) -> Kind {
    match KINDS
        .iter()
        .find(|(known, ..)| *known == magic & 0xffff_ffff)
    {
        Some((_, name, since)) => Kind {
            name: Some(name),
            idmapped: since.is_some_and(|since| kernel >= since),
        },
        None => Kind {
            name: None,
            idmapped: false,
        },
    }
}

/// Bytes and inodes that a path's file system can still take; `None` for a file system that does
/// not count its inodes.
pub fn free(path: &Path) -> io::Result<(u64, Option<u64>)> {
    let found = statvfs(path)?;
    let inodes = (found.f_files > 0).then_some(found.f_favail);
    Ok((found.f_bavail.saturating_mul(found.f_frsize), inodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idmapped_mounts_depend_on_file_system_and_kernel() {
        let of = |magic, major, minor| kind_of(magic, Version { major, minor });
        assert!(!of(0x0102_1994, 6, 2).idmapped);
        assert!(of(0x0102_1994, 6, 3).idmapped);
        assert!(of(0xffff_ffff_9123_683e, 6, 1).idmapped, "f_type is signed");
        assert!(!of(0x6969, 7, 0).idmapped);
        assert_eq!(
            of(0x1234_5678, 7, 0),
            Kind {
                name: None,
                idmapped: false
            }
        );
    }
}
