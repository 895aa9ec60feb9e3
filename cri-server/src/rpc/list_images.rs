//! ListImages: the images on this node.

use std::sync::Arc;

use skiff_cri::v1::{self as cri, ImageFilter, ListImagesRequest, ListImagesResponse};
use skiff_image::{Image, Store};

use super::RpcError;

/// Answers from the store's view.
pub async fn handle(
    store: &Store,
    request: ListImagesRequest,
) -> Result<ListImagesResponse, RpcError> {
    Ok(ListImagesResponse {
        images: list(store, request.filter),
    })
}

/// All images, or the one that a filter names.
pub fn list(store: &Store, filter: Option<ImageFilter>) -> Vec<cri::Image> {
    let name = filter
        .and_then(|filter| filter.image)
        .unwrap_or_default()
        .image;
    let images: Vec<Arc<Image>> = if name.is_empty() {
        store.images()
    } else {
        store.image(&name).into_iter().collect()
    };
    images.iter().map(|image| describe(image)).collect()
}

/// An image in the words of the CRI. The user is the number or the name that the image gives,
/// without its group; neither means root.
pub fn describe(image: &Image) -> cri::Image {
    let user = image.config.user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    cri::Image {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid: uid.map(|value| cri::Int64Value { value }),
        username: if uid.is_some() {
            String::new()
        } else {
            user.into()
        },
        spec: None,
        pinned: image.pinned,
    }
}
