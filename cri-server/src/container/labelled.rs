//! The volumes that are given a container's SELinux label: those that the request says so of
//! (`Mount.selinux_relabel`), and those that its image declares.

use std::path::PathBuf;

use oci_spec::runtime::Spec;
use skiff_cri::v1 as cri;
use skiff_image::Image;
use skiff_spec::image_of;

use super::error::ContainerError;
use super::volumes::OwnVolumes;
use crate::daemon::Daemon;
use crate::id::Id;
use crate::selinux::{relabel, volume_label};

/// Volumes and their label.
pub(super) struct Labelled {
    name: String,
    label: String,
    volumes: Vec<PathBuf>,
}

impl Labelled {
    /// `None` when there is nothing to do, as always where SELinux is not in use.
    pub(super) fn of(
        daemon: &Daemon,
        id: &Id,
        image: &Image,
        config: &cri::ContainerConfig,
        spec: &Spec,
    ) -> Option<Self> {
        let label = volume_label(spec, daemon.features.selinux.contexts()?)?;
        let asked = config
            .mounts
            .iter()
            .filter(|mount| mount.selinux_relabel && image_of(mount).is_none());
        let mut volumes: Vec<PathBuf> = asked.map(|mount| (&mount.host_path).into()).collect();
        if let Ok(own) = OwnVolumes::of(image, config) {
            volumes.extend(own.directories(daemon, id));
        }
        let name = config.metadata.as_ref()?.name.clone();
        (!volumes.is_empty()).then(|| Self {
            name,
            label: label.to_owned(),
            volumes,
        })
    }

    /// Labels them, by a thread that may be lost with the file system of a volume.
    pub(super) async fn label(self) -> Result<(), ContainerError> {
        let labelled = tokio::task::spawn_blocking(move || {
            let Self {
                name,
                label,
                volumes,
            } = self;
            volumes.into_iter().try_for_each(|volume| {
                relabel(&volume, &label).map_err(|source| ContainerError::Label {
                    name: name.clone(),
                    volume,
                    label: label.as_str().into(),
                    source: Box::new(source),
                })
            })
        });
        match labelled.await {
            Ok(result) => result,
            // The daemon ends: the next one undoes the container.
            Err(_) => std::future::pending().await,
        }
    }
}
