//! ListPodSandbox: the pods that fit a filter.

use std::sync::Arc;

use skiff_cri::v1::{ListPodSandboxRequest, ListPodSandboxResponse, PodSandboxFilter};

use super::{RpcError, selects};
use crate::daemon::Daemon;
use crate::pod::PodView;

/// Answers from the pods' views.
pub async fn handle(
    daemon: &Daemon,
    request: ListPodSandboxRequest,
) -> Result<ListPodSandboxResponse, RpcError> {
    let found = find(daemon, request.filter).await;
    Ok(found.iter().map(|pod| pod.listed()).collect())
}

/// The pods that fit a filter, which are those that fit all its parts.
pub async fn find(daemon: &Daemon, filter: Option<PodSandboxFilter>) -> Vec<Arc<PodView>> {
    daemon.ready().await;
    let filter = filter.unwrap_or_default();
    let views = daemon.store.pods().into_iter().map(|pod| pod.view());
    let fits = views.filter(|view| {
        view.is_visible()
            && view.facts.id.as_str().starts_with(&filter.id)
            && filter
                .state
                .is_none_or(|wanted| wanted.state == view.cri_state() as i32)
            && selects(&filter.label_selector, &view.facts.config.labels)
    });
    fits.collect()
}
