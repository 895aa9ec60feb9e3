//! GetContainerEvents: what happens to pods and containers, as it happens.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use skiff_cri::v1::{ContainerEventResponse, GetEventsRequest};

use super::RpcError;
use crate::container::resources::Limits;
use crate::daemon::Daemon;
use crate::events::{Event, Subscription};

/// Begins with the ends of containers that the client may have missed; goes on until the client
/// leaves, or has read so slowly that events were lost.
pub async fn handle(
    daemon: &Daemon,
    _request: GetEventsRequest,
) -> Result<BoxStream<'static, Result<ContainerEventResponse, RpcError>>, RpcError> {
    // Pods that an earlier daemon made are no news.
    daemon.ready().await;
    let (missed, subscription) = daemon.events.subscribe(&daemon.store);
    let limits = Arc::clone(&daemon.limits);
    let told = Arc::clone(&limits);
    let missed = stream::iter(missed).map(move |event| Ok(response(&event, &told)));
    let next = move |subscription| next(subscription, Arc::clone(&limits));
    Ok(missed
        .chain(stream::unfold(Some(subscription), next))
        .boxed())
}

type Next = (
    Result<ContainerEventResponse, RpcError>,
    Option<Subscription>,
);

async fn next(subscription: Option<Subscription>, limits: Arc<Limits>) -> Option<Next> {
    let mut subscription = subscription?;
    match subscription.next().await? {
        Ok(event) => Some((Ok(response(&event, &limits)), Some(subscription))),
        Err(lost) => Some((Err(lost.into()), None)),
    }
}

fn response(event: &Event, limits: &Limits) -> ContainerEventResponse {
    let Event { kind, id, at, pod } = event;
    ContainerEventResponse {
        container_id: id.to_string(),
        container_event_type: (*kind).into(),
        created_at: *at,
        pod_sandbox_status: Some(pod.status()),
        containers_statuses: pod.container_statuses(limits),
    }
}
