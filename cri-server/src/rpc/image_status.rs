//! ImageStatus: all about one image.

use std::collections::BTreeMap;

use serde_json::json;
use skiff_cri::v1::{ImageStatusRequest, ImageStatusResponse};
use skiff_image::{Image, Store};

use super::RpcError;
use super::list_images::describe;

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
            info(&image)
        } else {
            BTreeMap::new()
        },
    })
}

fn info(image: &Image) -> BTreeMap<String, String> {
    let config = &image.config;
    let info = json!({
        "imageSpec": { "config": {
            "User": config.user,
            "Env": config.env,
            "Entrypoint": config.entrypoint,
            "Cmd": config.cmd,
            "WorkingDir": config.working_dir,
            "StopSignal": config.stop_signal,
            "Volumes": config.volumes,
            "Labels": config.labels,
        }},
        "layers": image.layers,
    });
    BTreeMap::from([("info".into(), info.to_string())])
}
