//! ListPodSandboxStats: what the pods use that fit a filter.

use skiff_cri::v1::{
    ListPodSandboxStatsRequest, ListPodSandboxStatsResponse, PodSandboxStats, PodSandboxStatsFilter,
};

use super::{RpcError, selects};
use crate::daemon::Daemon;

/// Answers from memory.
pub async fn handle(
    daemon: &Daemon,
    request: ListPodSandboxStatsRequest,
) -> Result<ListPodSandboxStatsResponse, RpcError> {
    Ok(ListPodSandboxStatsResponse {
        stats: list(daemon, request.filter).await,
    })
}

/// The stats of the pods that fit a filter, which are those that fit all its parts.
pub async fn list(daemon: &Daemon, filter: Option<PodSandboxStatsFilter>) -> Vec<PodSandboxStats> {
    daemon.ready().await;
    daemon.stats.wake();
    let filter = filter.unwrap_or_default();
    let views = daemon.store.pods().into_iter().map(|pod| pod.view());
    let fits = views.filter(|view| {
        view.is_visible()
            && view.facts.id.as_str().starts_with(&filter.id)
            && selects(&filter.label_selector, &view.facts.config.labels)
    });
    fits.map(|view| daemon.stats.pod(daemon, &view)).collect()
}
