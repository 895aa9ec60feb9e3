//! RemoveImage: removes an image with all its names.

use std::time::Duration;

use skiff_cri::v1::{RemoveImageRequest, RemoveImageResponse};
use skiff_image::Store;

use super::RpcError;

/// Succeeds for an image that is not here. What a container runs on stays until it is removed.
///
/// Answers when the files are deleted: a kubelet that removes images because the disk is full looks
/// at once whether there is room now, and evicts pods when there is none. Is that not done within
/// `patience`, the client is answered all the same, before it gives up. Files that stay, because
/// containers run on them or because it is not known yet which do, are not waited for.
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
