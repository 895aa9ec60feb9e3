//! ListContainers: the containers that fit a filter.

use std::sync::Arc;

use skiff_cri::v1::{ContainerFilter, ListContainersRequest, ListContainersResponse};

use super::{RpcError, selects};
use crate::container::ContainerView;
use crate::daemon::Daemon;

/// Answers from the pods' views.
pub async fn handle(
    daemon: &Daemon,
    request: ListContainersRequest,
) -> Result<ListContainersResponse, RpcError> {
    let found = find(daemon, request.filter).await;
    Ok(found.iter().map(|container| container.listed()).collect())
}

/// The containers that fit a filter, which are those that fit all its parts.
pub async fn find(daemon: &Daemon, filter: Option<ContainerFilter>) -> Vec<Arc<ContainerView>> {
    daemon.ready().await;
    let filter = filter.unwrap_or_default();
    let mut found = Vec::new();
    for pod in daemon.store.pods() {
        if !pod.id().as_str().starts_with(&filter.pod_sandbox_id) {
            continue;
        }
        let view = pod.view();
        let fits = view
            .containers
            .values()
            .filter(|container| fits(container, &filter));
        found.extend(fits.cloned());
    }
    found
}

fn fits(container: &ContainerView, filter: &ContainerFilter) -> bool {
    container.facts.id.as_str().starts_with(&filter.id)
        && filter
            .state
            .is_none_or(|wanted| wanted.state == container.cri_state() as i32)
        && selects(&filter.label_selector, &container.facts.config.labels)
}
