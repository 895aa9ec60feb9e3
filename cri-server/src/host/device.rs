//! Device nodes of the host, for containers that ask for them.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxDeviceType;
use skiff_cri::v1::ContainerConfig;
use skiff_spec::{Devices, HostDevice, RequestedDevice};

/// Where the host keeps its nodes.
const DEV: &str = "/dev";
/// Names in /dev that are not the host's devices: each container has its own, or they hold none.
const NOT_DEVICES: [&str; 6] = ["pts", "ptmx", "shm", "fd", "mqueue", "console"];
/// Permissions of a device whose request names none.
const DEFAULT_PERMISSIONS: &str = "rwm";
/// How deep a directory of devices may be: /dev/bus/usb/001 is three.
const MAX_DEPTH: u32 = 8;

/// A device that a request names and the host does not have.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct DeviceError {
    /// Which of the request's devices.
    pub index: usize,
    /// The path that was looked at.
    pub path: PathBuf,
    /// What it is instead.
    #[source]
    pub source: io::Error,
}

/// Looks up the devices that a request names, and all the host's for a privileged container. A
/// link is followed; a directory stands for the nodes in and below it.
pub fn lookup(config: &ContainerConfig) -> Result<Devices, DeviceError> {
    let context = config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    let mut devices = Devices::default();
    for (index, request) in config.devices.iter().enumerate() {
        let path = PathBuf::from(&request.host_path);
        let nodes = named(&path).map_err(|source| DeviceError {
            index,
            path: path.clone(),
            source,
        })?;
        let container = Path::new(&request.container_path);
        let permissions = match request.permissions.as_str() {
            "" => DEFAULT_PERMISSIONS,
            permissions => permissions,
        };
        devices
            .requested
            .extend(nodes.into_iter().map(|(below, node)| RequestedDevice {
                container_path: container.components().chain(below.components()).collect(),
                permissions: permissions.to_owned(),
                node,
            }));
    }
    if context.is_some_and(|context| context.privileged) {
        devices.host = all(Path::new(DEV));
    }
    Ok(devices)
}

/// The nodes a path stands for, each with its path below it.
fn named(path: &Path) -> io::Result<Vec<(PathBuf, HostDevice)>> {
    let path = fs::canonicalize(path)?;
    let metadata = fs::metadata(&path)?;
    if let Some(node) = node(&path, &metadata) {
        return Ok(vec![(PathBuf::new(), node)]);
    }
    if !metadata.is_dir() {
        return Err(io::Error::other(
            "neither a device nor a directory of devices",
        ));
    }
    let mut nodes = Vec::new();
    walk(&path, MAX_DEPTH, &[], &mut nodes);
    Ok(nodes
        .into_iter()
        .map(|node| (below(&node.path, &path), node))
        .collect())
}

fn below(path: &Path, dir: &Path) -> PathBuf {
    path.strip_prefix(dir).unwrap_or(path).to_owned()
}

/// Every node below the host's device directory.
fn all(dev: &Path) -> Vec<HostDevice> {
    let mut nodes = Vec::new();
    walk(dev, MAX_DEPTH, &NOT_DEVICES, &mut nodes);
    nodes
}

/// Nodes come and go while the directory is read: what has gone is passed over.
fn walk(dir: &Path, depth: u32, skip: &[&str], nodes: &mut Vec<HostDevice>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if skip.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        // Not followed: a link has its target's node elsewhere.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_dir() && depth > 1 {
            walk(&entry.path(), depth - 1, &[], nodes);
        } else {
            nodes.extend(node(&entry.path(), &metadata));
        }
    }
}

/// The device node that this is the metadata of; `None` for anything else.
pub(super) fn node(path: &Path, metadata: &fs::Metadata) -> Option<HostDevice> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    Some(HostDevice {
        path: path.to_owned(),
        kind,
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_cri::v1::Device;

    fn request(host_path: &str, permissions: &str) -> ContainerConfig {
        let device = Device {
            container_path: "/dev/mine".into(),
            host_path: host_path.into(),
            permissions: permissions.into(),
        };
        ContainerConfig {
            devices: vec![device],
            ..Default::default()
        }
    }

    #[test]
    fn a_node_is_described_by_its_numbers() {
        let devices = lookup(&request("/dev/null", "")).unwrap();
        let found = &devices.requested[0];
        assert_eq!(found.container_path, Path::new("/dev/mine"));
        assert_eq!(found.permissions, "rwm");
        assert_eq!((found.node.major, found.node.minor), (1, 3));
        assert_eq!(found.node.kind, LinuxDeviceType::C);
        assert!(devices.host.is_empty());
    }

    #[test]
    fn a_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("zero");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let devices = lookup(&request(link.to_str().unwrap(), "r")).unwrap();
        assert_eq!(devices.requested[0].node.path, Path::new("/dev/zero"));
        assert_eq!(devices.requested[0].permissions, "r");
    }

    #[test]
    fn a_directory_stands_for_the_nodes_below_it() {
        let devices = lookup(&request("/dev", "r")).unwrap();
        let null = devices
            .requested
            .iter()
            .find(|device| device.node.path == Path::new("/dev/null"));
        assert_eq!(null.unwrap().container_path, Path::new("/dev/mine/null"));
    }

    #[test]
    fn what_is_no_device_is_refused_by_index() {
        for path in ["/dev/none-such", "/etc/passwd", ""] {
            let error = lookup(&request(path, "")).unwrap_err();
            assert_eq!(error.index, 0, "{path}");
            assert_eq!(error.path, Path::new(path));
        }
    }

    #[test]
    fn the_hosts_devices_leave_out_terminals_and_shared_memory() {
        let nodes = all(Path::new(DEV));
        assert!(nodes.iter().any(|node| node.path == Path::new("/dev/null")));
        assert!(!nodes.iter().any(|node| node.path.starts_with("/dev/pts")));
        assert!(
            !nodes
                .iter()
                .any(|node| node.path == Path::new("/dev/console"))
        );
    }
}
