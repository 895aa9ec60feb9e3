//! StreamImages: ListImages without a limit on the size of the answer.

use skiff_cri::v1::{StreamImagesRequest, StreamImagesResponse};
use skiff_image::Store;

use super::{RpcError, list_images, parts};

/// The messages of the stream, each with at least one image.
pub async fn handle(
    store: &Store,
    request: StreamImagesRequest,
) -> Result<Vec<StreamImagesResponse>, RpcError> {
    let parts = parts(list_images::list(store, request.filter)).into_iter();
    Ok(parts
        .map(|images| StreamImagesResponse { images })
        .collect())
}
