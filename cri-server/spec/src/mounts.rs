//! What is mounted where.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};

use crate::SpecError;
use crate::cri::{self, MountPropagation};
use crate::input::{HostFeatures, Input};

/// The mounts of a container, in the order they are made, and the propagation its root needs.
pub(crate) struct MountParts {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) rootfs_propagation: Option<&'static str>,
}

/// The kernel's file systems first, except where a requested mount covers them; then the pod's
/// files and the requested mounts together, shallow paths before deep ones so that none hides
/// another. At equal depth the request's order stays.
pub(crate) fn mounts(input: &Input<'_>) -> Result<MountParts, SpecError> {
    let mut requested = Vec::new();
    let mut rootfs_propagation = None;
    for (i, mount) in input.config.mounts.iter().enumerate() {
        requested.push(requested_mount(mount, i, input.host)?);
        rootfs_propagation = match MountPropagation::try_from(mount.propagation) {
            Ok(MountPropagation::PropagationBidirectional) => Some("rshared"),
            Ok(MountPropagation::PropagationHostToContainer) => {
                rootfs_propagation.or(Some("rslave"))
            }
            _ => rootfs_propagation,
        };
    }
    let mut mounts: Vec<Mount> = kernel_mounts(input.privileged())?;
    mounts.retain(|own| {
        !requested
            .iter()
            .any(|mount| own.destination().starts_with(mount.destination()))
    });
    let mut placed = pod_mounts(input)?;
    placed.retain(|own| {
        !requested
            .iter()
            .any(|mount| own.destination() == mount.destination())
    });
    placed.extend(requested);
    placed.sort_by_key(|mount| mount.destination().components().count());
    mounts.extend(placed);
    Ok(MountParts {
        mounts,
        rootfs_propagation,
    })
}

fn kernel_mounts(privileged: bool) -> Result<Vec<Mount>, SpecError> {
    let mut mounts = vec![
        kernel("/proc", "proc", "nosuid noexec nodev")?,
        kernel("/dev", "tmpfs", "nosuid strictatime mode=755 size=65536k")?,
        kernel(
            "/dev/pts",
            "devpts",
            "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5",
        )?,
        kernel("/dev/mqueue", "mqueue", "nosuid noexec nodev")?,
    ];
    if privileged {
        mounts.push(kernel("/sys", "sysfs", "nosuid noexec nodev rw")?);
        // A privileged container is in the host's cgroup namespace. There a new cgroup2 mount
        // changes the options of the host's own (nsdelegate is lost); a bind mount does not.
        let options = "nosuid noexec nodev relatime rw";
        mounts.push(bind(
            "/sys/fs/cgroup".into(),
            "/sys/fs/cgroup".into(),
            options,
        )?);
    } else {
        mounts.push(kernel("/sys", "sysfs", "nosuid noexec nodev ro")?);
        let options = "nosuid noexec nodev relatime ro";
        mounts.push(kernel("/sys/fs/cgroup", "cgroup", options)?);
    }
    Ok(mounts)
}

/// /dev/shm and the pod's files in /etc.
fn pod_mounts(input: &Input<'_>) -> Result<Vec<Mount>, SpecError> {
    let mut mounts = vec![if input.pod.host_ipc {
        bind("/dev/shm".into(), "/dev/shm".into(), "rw")?
    } else {
        // The shim puts the pod's shared one here, with the size it was adopted with.
        kernel("/dev/shm", "tmpfs", "nosuid noexec nodev mode=1777")?
    }];
    let readonly = input
        .security()
        .is_some_and(|context| context.readonly_rootfs);
    for (destination, source) in [
        ("/etc/hostname", &input.pod.hostname_path),
        ("/etc/hosts", &input.pod.hosts_path),
        ("/etc/resolv.conf", &input.pod.resolv_conf_path),
    ] {
        if let Some(source) = source {
            let access = if readonly { "ro" } else { "rw" };
            mounts.push(bind(destination.into(), source.clone(), access)?);
        }
    }
    Ok(mounts)
}

fn requested_mount(
    request: &cri::Mount,
    i: usize,
    host: &HostFeatures,
) -> Result<Mount, SpecError> {
    let at = |name: &str| format!("mounts[{i}].{name}");
    if request
        .image
        .as_ref()
        .is_some_and(|image| !image.image.is_empty())
    {
        return Err(SpecError::unsupported(at("image"), "image volumes"));
    }
    if !request.image_sub_path.is_empty() {
        return Err(SpecError::invalid(
            at("image_sub_path"),
            "set without an image",
        ));
    }
    for (name, mappings) in [
        ("uidMappings", &request.uid_mappings),
        ("gidMappings", &request.gid_mappings),
    ] {
        if !mappings.is_empty() {
            return Err(SpecError::unsupported(at(name), "id-mapped mounts"));
        }
    }
    if request.selinux_relabel && host.selinux {
        return Err(SpecError::unsupported(
            at("selinux_relabel"),
            "SELinux labels",
        ));
    }
    let destination = container_path(&request.container_path, &at("container_path"))?;
    let source = PathBuf::from(&request.host_path);
    if !source.is_absolute() {
        let reason = format!("{:?} is not an absolute path", request.host_path);
        return Err(SpecError::invalid(at("host_path"), reason));
    }
    let mut options = vec![
        "rbind",
        propagation(request, &at("propagation"))?,
        access(request, &at("recursive_read_only"), host)?,
    ];
    for option in &request.mount_options {
        if !["noexec", "nodev", "nosuid"].contains(&option.as_str()) {
            let reason = format!("{option:?} is not noexec, nodev or nosuid");
            return Err(SpecError::invalid(at("mount_options"), reason));
        }
        options.push(option);
    }
    mount(destination, "bind", source, &options)
}

fn propagation(request: &cri::Mount, field: &str) -> Result<&'static str, SpecError> {
    match MountPropagation::try_from(request.propagation) {
        Ok(MountPropagation::PropagationPrivate) => Ok("rprivate"),
        Ok(MountPropagation::PropagationHostToContainer) => Ok("rslave"),
        Ok(MountPropagation::PropagationBidirectional) => Ok("rshared"),
        Err(_) => Err(SpecError::invalid(
            field,
            format!("unknown mode {}", request.propagation),
        )),
    }
}

fn access(
    request: &cri::Mount,
    field: &str,
    host: &HostFeatures,
) -> Result<&'static str, SpecError> {
    if !request.recursive_read_only {
        return Ok(if request.readonly { "ro" } else { "rw" });
    }
    if !request.readonly {
        return Err(SpecError::invalid(field, "set without readonly"));
    }
    if request.propagation != MountPropagation::PropagationPrivate as i32 {
        return Err(SpecError::invalid(field, "needs PROPAGATION_PRIVATE"));
    }
    if !host.recursive_read_only {
        return Err(SpecError::RecursiveReadOnly {
            field: field.to_owned(),
            reason: "the kernel lacks mount_setattr (Linux 5.12)".to_owned(),
        });
    }
    Ok("rro")
}

/// An absolute path below the root, without `.` and doubled slashes.
fn container_path(path: &str, field: &str) -> Result<PathBuf, SpecError> {
    let clean: PathBuf = Path::new(path).components().collect();
    if !clean.is_absolute() {
        return Err(SpecError::invalid(
            field,
            format!("{path:?} is not an absolute path"),
        ));
    }
    if clean.components().any(|part| part == Component::ParentDir) {
        return Err(SpecError::invalid(field, format!("{path:?} contains ..")));
    }
    if clean.parent().is_none() {
        return Err(SpecError::invalid(
            field,
            "the root itself cannot be mounted over",
        ));
    }
    Ok(clean)
}

fn kernel(destination: &str, kind: &str, options: &str) -> Result<Mount, SpecError> {
    mount(
        destination.into(),
        kind,
        kind.into(),
        &options.split(' ').collect::<Vec<_>>(),
    )
}

fn bind(destination: PathBuf, source: PathBuf, options: &str) -> Result<Mount, SpecError> {
    let options: Vec<_> = ["rbind", "rprivate"]
        .into_iter()
        .chain(options.split(' '))
        .collect();
    mount(destination, "bind", source, &options)
}

fn mount(
    destination: PathBuf,
    kind: &str,
    source: PathBuf,
    options: &[&str],
) -> Result<Mount, SpecError> {
    let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
    let builder = MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source);
    Ok(builder.options(options).build()?)
}
