//! ListContainerStats: what the containers use that fit a filter.

use skiff_cri::v1::{
    ContainerStats, ContainerStatsFilter, ListContainerStatsRequest, ListContainerStatsResponse,
};

use super::{RpcError, selects};
use crate::container::ContainerView;
use crate::daemon::Daemon;

/// Answers from memory.
pub async fn handle(
    daemon: &Daemon,
    request: ListContainerStatsRequest,
) -> Result<ListContainerStatsResponse, RpcError> {
    Ok(ListContainerStatsResponse {
        stats: list(daemon, request.filter).await,
    })
}

/// The stats of the containers that fit a filter, which are those that fit all its parts.
pub async fn list(daemon: &Daemon, filter: Option<ContainerStatsFilter>) -> Vec<ContainerStats> {
    daemon.ready().await;
    daemon.stats.wake();
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
        found.extend(fits.map(|container| daemon.stats.container(daemon, container)));
    }
    found
}

fn fits(container: &ContainerView, filter: &ContainerStatsFilter) -> bool {
    container.facts.id.as_str().starts_with(&filter.id)
        && selects(&filter.label_selector, &container.facts.config.labels)
}
