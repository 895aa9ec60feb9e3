//! What containers need of images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use skiff_cri::v1 as cri;
use skiff_image::{Image, PullError, Reference, Snapshot, StoreError, Usage};

/// What containers need of the image store; a test puts its own in the place of the real one.
pub trait Images: Send + Sync {
    /// Keeps an image's layers for a container until [`Images::release`].
    fn hold(&self, container: &str, name: &str) -> Option<Arc<Image>>;
    /// Ends a hold.
    fn release(&self, container: &str);
    /// Asks an image's registry for signatures under a name; `None` when the image was never pulled
    /// by it.
    fn find_signatures(
        self: Arc<Self>,
        image: Arc<Image>,
        name: Reference,
    ) -> BoxFuture<'static, Result<Option<Arc<Image>>, PullError>>;
    /// Reads a file of an image; `None` when there is none.
    fn read_file(&self, image: &Image, path: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Whether an image has anything at a path.
    fn has_path(&self, image: &Image, path: &str) -> Result<bool, StoreError>;
    /// Makes a container's writable directories.
    fn prepare(&self, container: &str, image: &Image) -> Result<Snapshot, StoreError>;
    /// Where the directory of a volume is that a container's image declares.
    fn volume(&self, container: &str, number: usize) -> PathBuf;
    /// Makes that directory, beside the writable ones, like the image's at `path`.
    fn make_volume(
        &self,
        container: &str,
        number: usize,
        image: &Image,
        path: &Path,
    ) -> Result<(), StoreError>;
    /// How much a container has written there, its volumes included; `None` when there is nothing
    /// of it. Looks at every file.
    fn written(&self, container: &str) -> Result<Option<Usage>, StoreError>;
    /// The directory whose file system all this is on, as clients are told it.
    fn dir(&self) -> &Path;
    /// Removes them.
    fn remove_snapshot(&self, container: &str) -> Result<(), StoreError>;
}

impl Images for skiff_image::Store {
    fn hold(&self, container: &str, name: &str) -> Option<Arc<Image>> {
        Self::hold(self, container, name)
    }

    fn release(&self, container: &str) {
        Self::release(self, container);
    }

    fn find_signatures(
        self: Arc<Self>,
        image: Arc<Image>,
        name: Reference,
    ) -> BoxFuture<'static, Result<Option<Arc<Image>>, PullError>> {
        Box::pin(async move { Self::find_signatures(&self, &image, &name).await })
    }

    fn read_file(&self, image: &Image, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        /// A user data base longer than this is none.
        const LIMIT: u64 = 4 * 1024 * 1024;
        Self::read_file(self, image, path, LIMIT)
    }

    fn has_path(&self, image: &Image, path: &str) -> Result<bool, StoreError> {
        Self::has_path(self, image, path)
    }

    fn prepare(&self, container: &str, image: &Image) -> Result<Snapshot, StoreError> {
        self.snapshots().prepare(container, image)
    }

    fn volume(&self, container: &str, number: usize) -> PathBuf {
        self.snapshots().volume(container, number)
    }

    fn make_volume(
        &self,
        container: &str,
        number: usize,
        image: &Image,
        path: &Path,
    ) -> Result<(), StoreError> {
        self.snapshots().make_volume(container, number, image, path)
    }

    fn written(&self, container: &str) -> Result<Option<Usage>, StoreError> {
        self.snapshots().usage(container)
    }

    fn dir(&self) -> &Path {
        Self::dir(self)
    }

    fn remove_snapshot(&self, container: &str) -> Result<(), StoreError> {
        self.snapshots().remove(container)
    }
}

/// The name that the user knows the image by: as written in the pod, else as the request names
/// it, unless that is the image's id and the image has a name.
pub(super) fn image_name(config: &cri::ContainerConfig, image: &Image) -> String {
    let spec = config.image.clone().unwrap_or_default();
    if !spec.user_specified_image.is_empty() {
        return spec.user_specified_image;
    }
    let names = image.repo_tags.first().or(image.repo_digests.first());
    let is_id = is_id(&spec.image, image);
    names.filter(|_| is_id).cloned().unwrap_or(spec.image)
}

/// Whether a name is the image's id.
pub(super) fn is_id(name: &str, image: &Image) -> bool {
    let id = image.id.to_string();
    id == name || id.strip_prefix("sha256:").is_some_and(|hex| hex == name)
}

/// What a specification takes from an image.
pub(super) fn image_config(image: &Image) -> skiff_spec::ImageConfig {
    let config = image.config.clone();
    skiff_spec::ImageConfig {
        user: config.user,
        env: config.env,
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        working_dir: config.working_dir,
        stop_signal: config.stop_signal,
    }
}
