//! Image volumes: images that a container mounts beside its own (KEP-4639).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skiff_cri::v1 as cri;
use skiff_image::Image;
use skiff_shim_proto::message::ImageVolume;
use skiff_spec::image_of;

use super::error::ContainerError;
use crate::daemon::Daemon;
use crate::id::Id;
use crate::telemetry::chain;

/// The images of a container's volumes by the path that the request mounts them at, held until
/// the container's own image is released.
#[derive(Debug, Default)]
pub(super) struct ImageVolumes(Vec<(PathBuf, Volume)>);

#[derive(Debug)]
struct Volume {
    image: Arc<Image>,
    sub_path: Option<PathBuf>,
}

impl ImageVolumes {
    /// Holds every image that the request's mounts name.
    pub(super) fn hold(
        daemon: &Daemon,
        id: &Id,
        config: &cri::ContainerConfig,
    ) -> Result<Self, ContainerError> {
        let mut volumes = Self::default();
        for (number, mount) in config.mounts.iter().enumerate() {
            let Some(name) = image_of(mount) else {
                continue;
            };
            let path: PathBuf = Path::new(&mount.container_path).components().collect();
            let holder = holder(id, number);
            let failed = |reason: String| ContainerError::ImageVolume {
                path: path.clone(),
                image: name.to_owned(),
                reason,
            };
            let not_present = || failed("the image is not present; pull it first".into());
            let image = daemon.images.hold(&holder, name).ok_or_else(not_present)?;
            let sub_path = &*mount.image_sub_path;
            if !sub_path.is_empty() {
                match daemon.images.has_path(&image, sub_path) {
                    Ok(true) => {}
                    Ok(false) => return Err(failed(format!("it has no {sub_path}"))),
                    Err(error) => return Err(failed(chain(&error))),
                }
            }
            let sub_path = (!sub_path.is_empty()).then(|| sub_path.into());
            volumes.0.push((path, Volume { image, sub_path }));
        }
        Ok(volumes)
    }

    /// The images with what the request says of them.
    pub(super) fn images<'a>(
        &'a self,
        config: &'a cri::ContainerConfig,
    ) -> impl Iterator<Item = (&'a cri::ImageSpec, &'a Arc<Image>)> {
        let mounts = config
            .mounts
            .iter()
            .filter(|mount| image_of(mount).is_some());
        let specs = mounts.filter_map(|mount| mount.image.as_ref());
        specs.zip(self.0.iter().map(|(_, volume)| &volume.image))
    }

    /// Ids of the images, for the record.
    pub(super) fn ids(&self) -> BTreeMap<PathBuf, String> {
        let ids = self.0.iter();
        ids.map(|(path, volume)| (path.clone(), volume.image.id.to_string()))
            .collect()
    }

    /// What the shim is to mount. A single layer is mounted as it is, with the labels it has; to
    /// have another it must be part of an overlay, which takes two: `empty` is the other.
    pub(super) fn mounts(&self, empty: Option<PathBuf>) -> BTreeMap<PathBuf, ImageVolume> {
        let volumes = self.0.iter().map(|(path, volume)| {
            let mut layers = volume.image.layers.clone();
            if layers.len() == 1 {
                layers.extend(empty.clone());
            }
            let mount = ImageVolume {
                layers,
                sub_path: volume.sub_path.clone(),
            };
            (path.clone(), mount)
        });
        volumes.collect()
    }
}

/// The name under which a container holds the image of one of its volumes; goes with the
/// container's own ([`skiff_image::Store::release`]).
pub fn holder(id: &Id, number: usize) -> String {
    format!("{id}/{number}")
}

/// The mounts of a request as a status reports them: with the ids of the images.
pub(super) fn reported(
    mounts: &[cri::Mount],
    images: &BTreeMap<PathBuf, String>,
) -> Vec<cri::Mount> {
    let mut mounts = mounts.to_vec();
    for mount in &mut mounts {
        let path: PathBuf = Path::new(&mount.container_path).components().collect();
        if let (Some(image), Some(id)) = (&mut mount.image, images.get(&path)) {
            image.image_ref.clone_from(id);
        }
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_the_image_of_a_volume_by_its_id() {
        let image = cri::ImageSpec {
            image: "models:1".into(),
            ..Default::default()
        };
        let volume = cri::Mount {
            container_path: "/models/".into(),
            image: Some(image),
            ..Default::default()
        };
        let plain = cri::Mount {
            container_path: "/data".into(),
            ..Default::default()
        };
        let ids = BTreeMap::from([("/models".into(), "sha256:abc".to_owned())]);
        let reported = reported(&[volume, plain.clone()], &ids);
        assert_eq!(reported[0].image.as_ref().unwrap().image_ref, "sha256:abc");
        assert_eq!(reported[1], plain);
    }
}
