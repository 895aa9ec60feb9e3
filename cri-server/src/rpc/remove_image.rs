//! RemoveImage: removes an image with all its names.

use skiff_cri::v1::{RemoveImageRequest, RemoveImageResponse};
use skiff_image::Store;

use super::RpcError;

/// Succeeds for an image that is not here. What a container runs on stays until it is removed.
pub async fn handle(
    store: &Store,
    request: RemoveImageRequest,
) -> Result<RemoveImageResponse, RpcError> {
    let name = request.image.unwrap_or_default().image;
    if name.is_empty() {
        return Err(RpcError::missing("image.image"));
    }
    store.remove(&name).await?;
    Ok(RemoveImageResponse {})
}
