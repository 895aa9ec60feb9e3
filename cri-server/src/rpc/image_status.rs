//! ImageStatus: all about one image.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use skiff_cri::v1::{ImageStatusRequest, ImageStatusResponse};
use skiff_image::{Image, Store};

use super::RpcError;
use super::list_images::describe;
use crate::telemetry::chain;

/// Answers from the store's view. An image that is not here is no error but an empty answer.
pub async fn handle(
    store: &Store,
    request: ImageStatusRequest,
) -> Result<ImageStatusResponse, RpcError> {
    let name = request.image.unwrap_or_default().image;
    if name.is_empty() {
        return Err(RpcError::missing("image.image"));
    }
    let Some(image) = store.image(&name) else {
        return Ok(ImageStatusResponse::default());
    };
    Ok(ImageStatusResponse {
        image: Some(describe(&image)),
        info: if request.verbose {
            info(store, &image)
        } else {
            BTreeMap::new()
        },
    })
}

/// What tools look for under the key `info`: the image's configuration.
fn info(store: &Store, image: &Image) -> BTreeMap<String, String> {
    let read = store.configuration(image);
    let spec = read.map(|json| serde_json::from_slice::<Value>(&json).unwrap_or_default());
    let info = json!({
        "imageSpec": spec.unwrap_or_else(|error| {
            tracing::warn!(image = %image.id, error = chain(&error), "read a configuration");
            Value::Null
        }),
        "layers": image.layers,
    });
    BTreeMap::from([("info".into(), info.to_string())])
}
