//! What another runtime is given of a container: its configuration, and mount points.
//!
//! A configuration of ours says some things that only this shim understands; here they become what
//! the runtime-spec has for them. What has to be mounted for that is mounted by
//! [`skiff_runtime::stage`] in the mount namespace that the runtime is started in.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use skiff_runtime::oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use skiff_shim_proto::message::Failure;

use crate::failure;
use crate::pod::Pod;
use crate::poll::Key;

/// Says to runsc and others that the container is one of a sandbox that was made before, as a first
/// container. Here is none: each container is a sandbox of its own in the pod's namespaces.
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";

/// A bundle, removed when this is dropped.
#[derive(Debug)]
pub(super) struct Bundle(PathBuf);

/// Mounts to be made for a configuration, and where.
pub(super) type Staged = Vec<(Mount, PathBuf)>;

impl Bundle {
    /// Makes the bundle of container `id` below the shim's run directory. The mount points of the
    /// second part are still to be made.
    pub(super) fn make(
        run_dir: &Path,
        id: &str,
        mut spec: Spec,
        pod: &Pod,
    ) -> Result<(Self, Staged), Failure> {
        let bundle = Self(run_dir.join(id));
        let staged = bundle.translate(&mut spec, pod)?;
        bundle
            .fill(&spec)
            .map_err(|e| failure::system(format!("make bundle {}", bundle.0.display()), &e))?;
        Ok((bundle, staged))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The mount point of the root file system.
    pub(super) fn root(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// A file that the runtime is told of.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Where a command logs.
    pub(super) fn log(&self, number: Key) -> PathBuf {
        self.0.join(format!("{number:x}.log"))
    }

    /// Writes a file that the runtime reads.
    pub(super) fn write(&self, name: &str, json: io::Result<Vec<u8>>) -> Result<PathBuf, Failure> {
        let path = self.file(name);
        json.and_then(|json| write(&path, &json))
            .map_err(|e| failure::system(format!("write {}", path.display()), &e))?;
        Ok(path)
    }

    fn fill(&self, spec: &Spec) -> io::Result<()> {
        // Root of a pod's user namespace, who is not that of the host, goes through to the mount
        // point, past names that nobody else knows.
        if let Some(run_dir) = self.0.parent() {
            fs::set_permissions(run_dir, Permissions::from_mode(0o711))?;
        }
        let mut directory = DirBuilder::new();
        directory.mode(0o711);
        directory.create(&self.0)?;
        directory.create(self.root())?;
        write(&self.file("config.json"), &serde_json::to_vec(spec)?)
    }

    /// Says the same in words of the runtime-spec.
    fn translate(&self, spec: &mut Spec, pod: &Pod) -> Result<Staged, Failure> {
        if let Some(annotations) = spec.annotations_mut() {
            annotations.remove(CONTAINER_TYPE);
        }
        if let Some(linux) = spec.linux_mut()
            && let Some(mut namespaces) = linux.namespaces().clone()
        {
            let user = namespaces
                .iter_mut()
                .find(|namespace| namespace.typ() == LinuxNamespaceType::User);
            if let Some(user) = user {
                user.set_path(pod.user_namespace().map(|own| own.path()));
                // Those of a namespace that exists are read from it.
                linux.set_uid_mappings(None).set_gid_mappings(None);
            }
            linux.set_namespaces(Some(namespaces));
        }
        let mut staged = Vec::new();
        for mount in spec.mounts_mut().iter_mut().flatten() {
            check(mount)?;
            if is_ours(mount, pod) {
                let place = self.0.join(format!("mount{}", staged.len()));
                staged.push((mount.clone(), place.clone()));
                bind(mount, place);
            }
        }
        Ok(staged)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // What stays goes with the run directory, which the daemon clears when a shim is gone.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// For root alone: a configuration has the container's environment.
fn write(path: &Path, json: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(json)
}

/// The mount namespace that the runtime is started in hears of the host's mounts, and the host of
/// none in there.
fn check(mount: &Mount) -> Result<(), Failure> {
    let shared = |option: &String| matches!(option.as_str(), "shared" | "rshared");
    if mount.options().iter().flatten().any(shared) {
        return Err(failure::invalid(format!(
            "mount at {}: bidirectional propagation needs the built-in runtime",
            mount.destination().display()
        )));
    }
    Ok(())
}

/// Whether only we can make a mount: memory of the pod, an image, or ids that are mapped, which
/// not every runtime can do and some ignore.
fn is_ours(mount: &Mount, pod: &Pod) -> bool {
    match mount.typ().as_deref() {
        Some("image") => true,
        Some("tmpfs") => pod.shm().is_some() && mount.destination() == Path::new("/dev/shm"),
        _ => mount.uid_mappings().is_some(),
    }
}

/// Shows what is mounted at `place` instead.
fn bind(mount: &mut Mount, place: PathBuf) {
    let mut options = mount.options().clone().unwrap_or_default();
    options.retain(|option| {
        let of_tmpfs = ["mode=", "size="]
            .iter()
            .any(|start| option.starts_with(start));
        !of_tmpfs && !matches!(option.as_str(), "bind" | "rbind" | "idmap" | "ridmap")
    });
    options.insert(0, "rbind".into());
    mount.set_typ(Some("bind".into()));
    mount.set_source(Some(place));
    mount.set_options(Some(options));
    mount.set_uid_mappings(None);
    mount.set_gid_mappings(None);
}
