//! What is mounted where.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};

use crate::SpecError;
use crate::cri::{self, MountPropagation};
use crate::input::{HostFeatures, Input};
use crate::userns::{UserNamespace, map_volume};

/// The mounts of a container, in the order they are made, and the propagation its root needs: not
/// recursive, since each volume has its own.
pub(crate) struct MountParts {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) rootfs_propagation: Option<&'static str>,
}

/// The kernel's file systems first, except where a requested mount covers them; then the pod's
/// files and the requested mounts together, shallow paths before deep ones so that none hides
/// another. At equal depth the request's order stays.
pub(crate) fn mounts(
    input: &Input<'_>,
    user: Option<&UserNamespace>,
) -> Result<MountParts, SpecError> {
    let mut requested = Vec::new();
    let mut rootfs_propagation = None;
    for (i, mount) in input.config.mounts.iter().enumerate() {
        let mut made = requested_mount(mount, i, input.host)?;
        map_volume(&mut made, mount, i, user)?;
        check_place(&made, &requested, i)?;
        requested.push(made);
        rootfs_propagation = match MountPropagation::try_from(mount.propagation) {
            Ok(MountPropagation::PropagationBidirectional) => Some("shared"),
            Ok(MountPropagation::PropagationHostToContainer) => {
                rootfs_propagation.or(Some("slave"))
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

/// A volume that hid the kernel's own /proc would take in the container's protections, and of two
/// images at one place only one could be told from the other.
fn check_place(mount: &Mount, others: &[Mount], i: usize) -> Result<(), SpecError> {
    let destination = mount.destination();
    let refused = |reason: &str| {
        let reason = format!("{} {reason}", destination.display());
        let field = format!("mounts[{i}].container_path");
        Err(SpecError::invalid(field, reason))
    };
    if destination == Path::new("/proc") {
        return refused("cannot be mounted over");
    }
    let is_image = |mount: &Mount| mount.typ().as_deref() == Some("image");
    let same = |other: &&Mount| other.destination() == destination && is_image(other);
    if is_image(mount) && others.iter().any(|other| same(&other)) {
        return refused("has another image volume already");
    }
    Ok(())
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
    if !request.image_sub_path.is_empty() && image_of(request).is_none() {
        return Err(SpecError::invalid(
            at("image_sub_path"),
            "set without an image",
        ));
    }
    let destination = container_path(&request.container_path, &at("container_path"))?;
    if Path::new(&request.image_sub_path)
        .components()
        .any(|part| part == Component::ParentDir)
    {
        let reason = format!("{:?} contains ..", request.image_sub_path);
        return Err(SpecError::invalid(at("image_sub_path"), reason));
    }
    if let Some(image) = image_of(request) {
        return image_volume(request, image, destination, i);
    }
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
    options.extend(mount_options(request, &at("mount_options"))?);
    mount(destination, "bind", source, &options)
}

/// The image that a mount shows; `None` for a directory or file of the host.
pub fn image_of(request: &cri::Mount) -> Option<&str> {
    let image = request.image.as_ref()?;
    (!image.image.is_empty()).then_some(&*image.image)
}

/// A mount of type `image`, whose layers the shim is told beside the specification: read-only and
/// without programs to run, as KEP-4639 has it, and without devices.
fn image_volume(
    request: &cri::Mount,
    image: &str,
    destination: PathBuf,
    i: usize,
) -> Result<Mount, SpecError> {
    let refused = |name: &str, reason: &str| {
        let field = format!("mounts[{i}].{name}");
        Err(SpecError::invalid(field, reason))
    };
    if !request.host_path.is_empty() {
        return refused("host_path", "set together with an image");
    }
    if !request.readonly {
        return refused("readonly", "an image volume cannot be written");
    }
    if request.propagation != MountPropagation::PropagationPrivate as i32 {
        return refused("propagation", "an image volume needs PROPAGATION_PRIVATE");
    }
    mount_options(request, &format!("mounts[{i}].mount_options"))?;
    let options = ["ro", "noexec", "nosuid", "nodev"];
    mount(destination, "image", image.into(), &options)
}

/// Options that hold for everything below the mount, too: what is asked for is that nothing in
/// the volume can be executed, say.
fn mount_options(request: &cri::Mount, field: &str) -> Result<Vec<&'static str>, SpecError> {
    let option = |word: &String| match word.as_str() {
        "noexec" => Ok("rnoexec"),
        "nodev" => Ok("rnodev"),
        "nosuid" => Ok("rnosuid"),
        _ => {
            let reason = format!("{word:?} is not noexec, nodev or nosuid");
            Err(SpecError::invalid(field, reason))
        }
    };
    request.mount_options.iter().map(option).collect()
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
pub(crate) fn container_path(path: &str, field: &str) -> Result<PathBuf, SpecError> {
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
