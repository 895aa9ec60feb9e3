//! The /dev of a container with a user namespace. Nobody in there may make device nodes, and in a
//! file system that was mounted there they would not work; so the parent makes the tmpfs, on the
//! host's behalf, with the nodes in it, and gives it to the namespace's root. The host's mount
//! table does not see it, and no node of the host's own is in the container.
//!
//! The default devices belong to the namespace's root. One of the configuration belongs to whom
//! the configuration says; without a word about that it stays the host root's, so that being root
//! in the container opens no door that is not open to everyone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chownat, makedev};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use rustix::process::umask;

use super::{DEFAULT, is_overridden, make, make_configured};
use crate::Error;
use crate::error::Doing;
use crate::mount::options::{Options, attr};
use crate::mount::{Mount, MountLabel, What};
use crate::oci_spec::runtime::LinuxDevice;
use crate::user_namespace::{IdMappings, UserNamespace};

/// Makes the tmpfs that the configuration has at /dev, with its nodes. A /dev of the host is left
/// as it is, and has whatever the host has.
pub(crate) fn prepare(
    mounts: &mut [Mount],
    devices: &[LinuxDevice],
    user: &UserNamespace,
    label: MountLabel<'_>,
) -> Result<(), Error> {
    let dev = mounts
        .iter_mut()
        .rev()
        .find(|mount| mount.destination == Path::new("/dev"));
    match dev {
        Some(mount) if mount.is_new("tmpfs") => {
            let tree = tmpfs(&mount.options, label, user.mappings())?;
            // The modes are meant as they are written.
            let before = umask(Mode::empty());
            let made = populate(tree.as_fd(), devices, user.mappings());
            umask(before);
            made?;
            mount.what = What::Dev(tree);
            Ok(())
        }
        Some(Mount {
            what: What::Tree(_),
            ..
        }) => Ok(()),
        _ => Err(Error::invalid(
            "mounts",
            "with a user namespace, which can make no device nodes, a tmpfs at /dev is needed",
        )),
    }
}

fn tmpfs(options: &Options, label: MountLabel<'_>, ids: &IdMappings) -> Result<OwnedFd, Error> {
    let doing = || format!("make a tmpfs for /dev with options {:?}", options.data);
    let (uid, gid) = ids.root()?;
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).doing(doing)?;
    label.configure(fs.as_fd())?;
    fsconfig_set_string(&fs, "uid", uid.to_string())
        .and_then(|()| fsconfig_set_string(&fs, "gid", gid.to_string()))
        .doing(doing)?;
    for option in options.data.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some((name, value)) => fsconfig_set_string(&fs, name, value),
            None => fsconfig_set_flag(&fs, option),
        }
        .doing(doing)?;
    }
    fsconfig_create(&fs).doing(doing)?;
    // Read-only it becomes when everything is in it.
    let attributes = (options.attr.set & !attr::RDONLY) as u32;
    let attributes = MountAttrFlags::from_bits_retain(attributes);
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).doing(doing)
}

fn populate(dev: BorrowedFd<'_>, devices: &[LinuxDevice], ids: &IdMappings) -> Result<(), Error> {
    let (uid, gid) = ids.root()?;
    for &(name, major, minor) in DEFAULT {
        if is_overridden(name, devices) {
            continue;
        }
        let number = makedev(major, minor);
        make(dev, name, FileType::CharacterDevice, 0o666, number)
            .and_then(|()| Ok(chownat(dev, name, Some(uid), Some(gid), AtFlags::empty())?))
            .doing(|| format!("make /dev/{name}"))?;
    }
    for device in devices {
        let path = device.path();
        let Ok(below) = path.strip_prefix("/dev") else {
            return Err(Error::invalid(
                format!("linux.devices ({})", path.display()),
                "outside of /dev no device can be made in a user namespace",
            ));
        };
        let owner = owner(device, ids)?;
        make_configured(dev, below, device, owner)
            .map_err(|e| Error::system(format!("make device {}", path.display()), e))?;
    }
    Ok(())
}

/// The host's ids of a device's owner.
fn owner(device: &LinuxDevice, ids: &IdMappings) -> Result<(Uid, Gid), Error> {
    let refused = |field: &str, id: u32| {
        Error::invalid(
            format!("linux.devices ({}).{field}", device.path().display()),
            format!("{id} is not mapped in the container's user namespace"),
        )
    };
    let uid = device
        .uid()
        .map(|id| ids.host_uid(id).ok_or_else(|| refused("uid", id)));
    let gid = device
        .gid()
        .map(|id| ids.host_gid(id).ok_or_else(|| refused("gid", id)));
    Ok((
        Uid::from_raw(uid.transpose()?.unwrap_or(0)),
        Gid::from_raw(gid.transpose()?.unwrap_or(0)),
    ))
}
