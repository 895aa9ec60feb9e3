//! PullImage: fetches an image from its registry.

use std::sync::Arc;
use std::time::Instant;

use skiff_cri::v1::{AuthConfig, PullImageRequest, PullImageResponse};
use skiff_image::{Auth, PullRequest, Store};
use skiff_signature::Policies;

use super::RpcError;
use crate::telemetry::Telemetry;

/// Answers with the image's id, by which containers and lists name it, too. A client that gives
/// up cancels the pull, unless others wait for it. Signatures are those that the pod's namespace
/// asks for, or everybody, when the request names no pod.
pub async fn handle(
    store: &Arc<Store>,
    signatures: &Policies,
    telemetry: &Telemetry,
    request: PullImageRequest,
) -> Result<PullImageResponse, RpcError> {
    let reference = request.image.unwrap_or_default().image;
    if reference.is_empty() {
        return Err(RpcError::missing("image.image"));
    }
    let pod = request.sandbox_config.and_then(|pod| pod.metadata);
    let policy = signatures.of(&pod.unwrap_or_default().namespace)?;
    let pull = PullRequest {
        reference,
        auth: request.auth.map(credentials),
        policy,
    };
    let began = Instant::now();
    let image = store.pull(pull).await;
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
