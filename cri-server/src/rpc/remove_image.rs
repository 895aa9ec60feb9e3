//! RemoveImage: removes an image with all its names.

use std::time::Duration;

use skiff_cri::v1::{RemoveImageRequest, RemoveImageResponse};
use skiff_image::Store;

use super::RpcError;

/// Succeeds for an image that is not here. What a container runs on stays until it is removed.
///
/// Answers when the files are deleted: a kubelet that removes images because the disk is full looks
/// at once whether there is room now, and evicts pods when there is none. Of a client that waits
/// less than twice `patience` that would make an error; it is answered before, and the files go in
/// the background.
pub async fn handle(
    store: &Store,
    patience: Duration,
    request: RemoveImageRequest,
) -> Result<RemoveImageResponse, RpcError> {
    let name = request.image.unwrap_or_default().image;
    if name.is_empty() {
        return Err(RpcError::missing("image.image"));
    }
    store.remove(&name).await?;
    if tokio::time::timeout(patience, store.deleted())
        .await
        .is_err()
    {
        tracing::info!(
            image = name,
            "the files of an image are still being deleted"
        );
    }
    Ok(RemoveImageResponse {})
}
