//! Volumes that an image declares: directories of the container's own, mounted where the image
//! wants them unless the request has a mount there.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{MountBuilder, Spec};
use skiff_cri::v1 as cri;

use crate::SpecError;
use crate::namespaces::pod_namespaces;
use crate::userns::map;

/// Most volumes an image may declare: each is a mount of every container.
const LIMIT: usize = 128;

/// The paths among those that an image declares which are to be mounted: absolute, without what
/// the request's mounts cover.
pub fn own_volumes(
    declared: &[String],
    config: &cri::ContainerConfig,
) -> Result<Vec<PathBuf>, SpecError> {
    let clean = |path: &str| -> PathBuf { Path::new("/").join(path).components().collect() };
    let requested: Vec<PathBuf> = config
        .mounts
        .iter()
        .map(|mount| clean(&mount.container_path))
        .collect();
    let mut volumes = Vec::new();
    for path in declared.iter().map(|path| clean(path)) {
        let is_root = path.parent().is_none();
        if is_root || path.components().any(|part| part == Component::ParentDir) {
            let reason = format!("the image declares a volume at {}", path.display());
            return Err(SpecError::invalid("image", reason));
        }
        if !requested.iter().any(|mount| path.starts_with(mount)) && !volumes.contains(&path) {
            volumes.push(path);
        }
    }
    if volumes.len() > LIMIT {
        let reason = format!(
            "the image declares {} volumes, the limit is {LIMIT}",
            volumes.len()
        );
        return Err(SpecError::invalid("image", reason));
    }
    Ok(volumes)
}

/// Adds the mounts of volumes, each with its path in the container and its directory. They come
/// before the first mount that lies below one of them, and after the kernel's own.
pub fn mount_volumes(
    spec: &mut Spec,
    volumes: &[(PathBuf, PathBuf)],
    pod: &cri::PodSandboxConfig,
) -> Result<(), SpecError> {
    if volumes.is_empty() {
        return Ok(());
    }
    let user = pod_namespaces(pod)?.user;
    let ids = user.map(|user| user.mapping()).transpose()?;
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let mut volumes = volumes.to_vec();
    volumes.sort_by_key(|(path, _)| path.components().count());
    for (path, directory) in volumes {
        let options = ["rbind", "rprivate", "rw"].map(str::to_owned);
        let mut mount = MountBuilder::default()
            .destination(&path)
            .typ("bind")
            .source(directory)
            .options(options)
            .build()?;
        if let Some(ids) = &ids {
            map(&mut mount, vec![*ids], vec![*ids]);
        }
        let below = mounts
            .iter()
            .position(|mount| mount.destination().starts_with(&path));
        mounts.insert(below.unwrap_or(mounts.len()), mount);
    }
    spec.set_mounts(Some(mounts));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(mounts: &[&str]) -> cri::ContainerConfig {
        let mount = |path: &&str| cri::Mount {
            container_path: (*path).into(),
            ..Default::default()
        };
        cri::ContainerConfig {
            mounts: mounts.iter().map(mount).collect(),
            ..Default::default()
        }
    }

    fn own(declared: &[&str], mounts: &[&str]) -> Vec<String> {
        let declared: Vec<String> = declared.iter().map(ToString::to_string).collect();
        let own = own_volumes(&declared, &config(mounts)).unwrap();
        own.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn a_mount_of_the_request_takes_a_volumes_place() {
        let declared = ["/data/", "logs", "/data", "/srv/www"];
        assert_eq!(own(&declared, &[]), ["/data", "/logs", "/srv/www"]);
        assert_eq!(own(&declared, &["/data", "/srv/"]), ["/logs"]);
        assert_eq!(own(&["/data"], &["/data/sub", "/database"]), ["/data"]);
    }

    #[test]
    fn a_volume_that_is_no_place_is_refused() {
        for path in ["/", "", "/a/../../etc"] {
            assert!(own_volumes(&[path.into()], &config(&[])).is_err(), "{path}");
        }
        let many: Vec<String> = (0..=LIMIT).map(|n| format!("/v/{n}")).collect();
        assert!(own_volumes(&many, &config(&[])).is_err());
    }

    #[test]
    fn a_volume_does_not_hide_what_is_mounted_below_it() {
        let mount = |path: &str| {
            let builder = MountBuilder::default().destination(path).typ("bind");
            builder.build().unwrap()
        };
        let mut spec = Spec::default();
        spec.set_mounts(Some(vec![mount("/proc"), mount("/data/a/b"), mount("/x")]));
        let volumes = [("/data/a", "/1"), ("/data", "/2"), ("/y", "/3")]
            .map(|(path, directory)| (path.into(), directory.into()));
        mount_volumes(&mut spec, &volumes, &cri::PodSandboxConfig::default()).unwrap();
        let mounts = spec.mounts().clone().unwrap();
        let order: Vec<_> = mounts
            .iter()
            .map(|m| m.destination().to_str().unwrap())
            .collect();
        assert_eq!(
            order,
            ["/proc", "/data", "/data/a", "/data/a/b", "/x", "/y"]
        );
    }
}
