//! PullImage: fetches an image from its registry.

use std::sync::Arc;
use std::time::Instant;

use skiff_cri::v1::{AuthConfig, PullImageRequest, PullImageResponse};
use skiff_image::{Auth, PullRequest, Store};

use super::RpcError;
use crate::telemetry::Telemetry;

/// Answers with the image's id, by which containers and lists name it, too. A client that gives
/// up cancels the pull, unless others wait for it.
pub async fn handle(
    store: &Arc<Store>,
    telemetry: &Telemetry,
    request: PullImageRequest,
) -> Result<PullImageResponse, RpcError> {
    let reference = request.image.unwrap_or_default().image;
    if reference.is_empty() {
        return Err(RpcError::missing("image.image"));
    }
    let auth = request.auth.map(credentials);
    let began = Instant::now();
    let image = store.pull(PullRequest { reference, auth }).await;
    telemetry.metrics.pulls.done(began, &image);
    Ok(PullImageResponse {
        image_ref: image?.id.to_string(),
    })
}

fn credentials(config: AuthConfig) -> Auth {
    let AuthConfig {
        username,
        password,
        auth,
        server_address,
        identity_token,
        registry_token,
    } = config;
    Auth {
        username,
        password,
        auth,
        server_address,
        identity_token,
        registry_token,
    }
}
