//! /dev: the devices and links that every container has, and those of the configuration.

pub(crate) mod outside;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dev, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use crate::Error;
use crate::error::Doing;
use crate::mount::{Mount, What};
use crate::oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use crate::path::{self, Kind};

/// Name and device number of what the runtime-spec calls default devices, all of mode 666.
const DEFAULT: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links in /dev and their targets.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Makes devices and links, unless the configuration puts a /dev of the host there. The caller's
/// umask is 0.
pub(crate) fn make_all(
    root: BorrowedFd<'_>,
    mounts: &[Mount],
    devices: &[LinuxDevice],
) -> Result<(), Error> {
    let mounted_at = |path: &str| {
        mounts
            .iter()
            .rev()
            .find(|mount| mount.destination == Path::new(path))
    };
    let at_dev = mounted_at("/dev").map(|mount| &mount.what);
    if matches!(at_dev, Some(What::Tree(_) | What::Image { .. })) {
        return Ok(());
    }
    let dev = path::open_or_create(root, Path::new("/dev"), || Ok(Kind::Directory))?;
    let made = matches!(at_dev, Some(What::Dev(_)));
    for &(name, major, minor) in DEFAULT {
        if !made && !is_overridden(name, devices) {
            make(
                dev.as_fd(),
                name,
                FileType::CharacterDevice,
                0o666,
                makedev(major, minor),
            )
            .doing(|| format!("make /dev/{name}"))?;
        }
    }
    for (name, target) in LINKS {
        link(dev.as_fd(), name, target)?;
    }
    if rustix::fs::access("/proc/kcore", rustix::fs::Access::EXISTS).is_ok() {
        link(dev.as_fd(), "core", "/proc/kcore")?;
    }
    if mounted_at("/dev/pts").is_some_and(|mount| mount.is_new("devpts")) {
        replace_with_link(dev.as_fd(), "ptmx", "pts/ptmx").doing(|| "make /dev/ptmx")?;
    }
    for device in devices.iter().filter(|_| !made) {
        let owner = (
            Uid::from_raw(device.uid().unwrap_or(0)),
            Gid::from_raw(device.gid().unwrap_or(0)),
        );
        make_configured(root, device.path(), device, owner)
            .map_err(|e| Error::system(format!("make device {}", device.path().display()), e))?;
    }
    Ok(())
}

/// Does the configuration have a device of its own in the place of a default one?
fn is_overridden(name: &str, devices: &[LinuxDevice]) -> bool {
    devices
        .iter()
        .any(|d| d.path().strip_prefix("/dev") == Ok(Path::new(name)))
}

/// Makes a device at `path` below `root`, of an owner by the ids of the file system there.
fn make_configured(
    root: BorrowedFd<'_>,
    path: &Path,
    device: &LinuxDevice,
    (uid, gid): (Uid, Gid),
) -> std::io::Result<()> {
    let invalid = |what| std::io::Error::new(std::io::ErrorKind::InvalidInput, what);
    let name = path
        .file_name()
        .ok_or_else(|| invalid("not a file's path"))?;
    let parent = path.parent().ok_or_else(|| invalid("not a file's path"))?;
    let parent = path::open_or_create(root, parent, || Ok(Kind::Directory))
        .map_err(|e| std::io::Error::other(e.to_string()))?;
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return Err(invalid("type a names no device to make")),
    };
    let number = |n: i64| u32::try_from(n).map_err(|_| invalid("negative device number"));
    let dev = match kind {
        FileType::Fifo => 0,
        _ => makedev(number(device.major())?, number(device.minor())?),
    };
    let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
    make(parent.as_fd(), name, kind, mode, dev)?;
    if (uid, gid) != (Uid::ROOT, Gid::ROOT) {
        chownat(
            &parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
    }
    Ok(())
}

/// A node that is there already is fine when it is the same device.
fn make(
    dir: BorrowedFd<'_>,
    name: impl rustix::path::Arg + Copy,
    kind: FileType,
    mode: u32,
    dev: Dev,
) -> std::io::Result<()> {
    match mknodat(dir, name, kind, Mode::from_raw_mode(mode), dev) {
        Err(Errno::EXIST) => {
            let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == dev {
                return Ok(());
            }
            Err(std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                "something else is there already",
            ))
        }
        done => Ok(done?),
    }
}

/// A link, unless the image brings something of that name.
fn link(dev: BorrowedFd<'_>, name: &str, target: &str) -> Result<(), Error> {
    match symlinkat(target, dev, name) {
        Err(Errno::EXIST) => Ok(()),
        done => done.doing(|| format!("make /dev/{name}")),
    }
}

fn replace_with_link(dev: BorrowedFd<'_>, name: &str, target: &str) -> rustix::io::Result<()> {
    match symlinkat(target, dev, name) {
        Err(Errno::EXIST) => {
            unlinkat(dev, name, AtFlags::empty())?;
            symlinkat(target, dev, name)
        }
        done => done,
    }
}

/// The host's null device, checked to be it: what masks files, and a process's standard input.
pub(crate) fn open_null() -> Result<OwnedFd, Error> {
    let null = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "open /dev/null")?;
    let stat = rustix::fs::fstat(&null).doing(|| "stat /dev/null")?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if device && stat.st_rdev == makedev(1, 3) {
        Ok(null)
    } else {
        Err(Error::invalid(
            "/dev/null",
            "the host's is not the null device",
        ))
    }
}
