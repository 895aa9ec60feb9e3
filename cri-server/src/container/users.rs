//! The user data bases of images, parsed once for each image.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use skiff_image::{Digest, Image, StoreError};
use skiff_spec::UserFiles;

use super::image::Images;

/// Most images whose files are kept: more than a node starts containers of in a short time.
const LIMIT: usize = 64;

/// /etc/passwd and /etc/group of the images that were used last.
#[derive(Debug, Default)]
pub struct Users(Mutex<HashMap<Digest, Arc<UserFiles>>>);

impl Users {
    /// The files of an image. An image is named by its content, so what was read once stays true.
    pub fn of(&self, images: &dyn Images, image: &Image) -> Result<Arc<UserFiles>, StoreError> {
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&image.id)
            .cloned();
        if let Some(files) = known {
            return Ok(files);
        }
        let read = |path: &str| images.read_file(image, path).map(Option::unwrap_or_default);
        let files = Arc::new(UserFiles::parse(&read("etc/passwd")?, &read("etc/group")?));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= LIMIT {
            all.clear();
        }
        all.insert(image.id, Arc::clone(&files));
        Ok(files)
    }
}
