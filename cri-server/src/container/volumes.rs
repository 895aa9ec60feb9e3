//! Volumes that a container's image declares: each a directory of the container's own, which
//! begins with what the image has there, outlives nothing, and can be written even when the root
//! file system cannot.

use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::runtime::Spec;
use skiff_cri::v1 as cri;
use skiff_image::{Image, StoreError};
use skiff_spec::{SpecError, mount_volumes, own_volumes};

use crate::daemon::Daemon;
use crate::id::Id;

/// Paths of the volumes in the container.
#[derive(Debug)]
pub(super) struct OwnVolumes(Vec<PathBuf>);

impl OwnVolumes {
    /// What the image declares and the request does not mount over.
    pub(super) fn of(image: &Image, config: &cri::ContainerConfig) -> Result<Self, SpecError> {
        own_volumes(&image.config.volumes, config).map(Self)
    }

    /// Their directories.
    pub(super) fn directories(&self, daemon: &Daemon, id: &Id) -> Vec<PathBuf> {
        let numbers = 0..self.0.len();
        numbers
            .map(|number| daemon.images.volume(id.as_str(), number))
            .collect()
    }

    /// Adds their mounts to the specification.
    pub(super) fn mount(
        &self,
        daemon: &Daemon,
        id: &Id,
        spec: &mut Spec,
        pod: &cri::PodSandboxConfig,
    ) -> Result<(), SpecError> {
        let directory = |number| daemon.images.volume(id.as_str(), number);
        let volumes = self.0.iter().enumerate();
        let volumes: Vec<_> = volumes
            .map(|(number, path)| (path.clone(), directory(number)))
            .collect();
        mount_volumes(spec, &volumes, pod)
    }

    /// Makes their directories in the container's snapshot, away from the threads that serve.
    pub(super) async fn make(
        self,
        daemon: &Daemon,
        id: &Id,
        image: Arc<Image>,
    ) -> Result<(), StoreError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let (images, id) = (Arc::clone(&daemon.images), id.clone());
        let copy = tokio::task::spawn_blocking(move || {
            let mut volumes = self.0.iter().enumerate();
            volumes.try_for_each(|(number, path)| {
                images.make_volume(id.as_str(), number, &image, path)
            })
        });
        match copy.await {
            Ok(made) => made,
            // The daemon ends: the next one undoes the container.
            Err(_) => std::future::pending().await,
        }
    }
}
