//! What a client of GetContainerEvents is told, and what is counted meanwhile.

mod support;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use skiff_cri::v1::runtime_service_server::RuntimeService;
use skiff_cri::v1::{self as cri, ContainerEventType as Kind};
use skiff_cri_server::telemetry::{Phase, exposition};
use support::{Node, Running, container, host_pod};
use tonic::{Request, Status};

/// Longest wait for an event; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

type Events = BoxStream<'static, Result<cri::ContainerEventResponse, Status>>;

fn subscribe(daemon: &Running) -> Events {
    let request = Request::new(cri::GetEventsRequest {});
    let answer = daemon.block_on(daemon.service.get_container_events(request));
    answer.unwrap().into_inner()
}

fn next(daemon: &Running, events: &mut Events) -> cri::ContainerEventResponse {
    let event = async { tokio::time::timeout(PATIENCE, events.next()).await };
    daemon.block_on(event).unwrap().unwrap().unwrap()
}

/// The next events by kind and id.
fn told(daemon: &Running, events: &mut Events, number: usize) -> Vec<(Kind, String)> {
    let mut event = || next(daemon, events);
    (0..number)
        .map(|_| event())
        .map(|event| (event.container_event_type(), event.container_id))
        .collect()
}

#[test]
fn a_client_is_told_of_a_pods_life() {
    use Kind::{ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted};
    use Kind::{ContainerStartedEvent as Started, ContainerStoppedEvent as Stopped};
    let node = Node::new();
    let daemon = node.start();
    let mut events = subscribe(&daemon);
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let c = daemon.create(&pod, &container("c")).unwrap();
    daemon.start(&c).unwrap();
    let of = |kind, id: &String| (kind, id.clone());
    assert_eq!(
        told(&daemon, &mut events, 4),
        [
            of(Created, &pod),
            of(Started, &pod),
            of(Created, &c),
            of(Started, &c)
        ]
    );
    node.shims.exit(&pod, &c, 7);
    let stopped = next(&daemon, &mut events);
    assert_eq!(
        (stopped.container_event_type(), &stopped.container_id),
        (Stopped, &c)
    );
    // The status is that of a reader who comes now.
    assert_eq!(stopped.containers_statuses, [daemon.status(&c).unwrap()]);
    let sandbox = stopped.pod_sandbox_status.unwrap();
    assert_eq!(sandbox, daemon.pod_status(&pod).unwrap());
    daemon.remove(&c).unwrap();
    daemon.remove_pod(&pod).unwrap();
    assert_eq!(
        told(&daemon, &mut events, 2),
        [of(Deleted, &c), of(Stopped, &pod)]
    );
    let deleted = next(&daemon, &mut events);
    assert_eq!(
        (deleted.container_event_type(), &deleted.container_id),
        (Deleted, &pod)
    );
    assert_eq!(deleted.pod_sandbox_status.unwrap().id, pod);
}

/// A kubelet takes the status with the later time for the newer one: one who has read the view
/// before an event must not have a later time than the event.
#[test]
fn an_event_is_later_than_a_status_read_before_it() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let mut events = subscribe(&daemon);
    for round in 0..20 {
        let c = daemon
            .create(&pod, &container(&format!("c{round}")))
            .unwrap();
        let event = next(&daemon, &mut events);
        let read = async {
            let request = cri::PodSandboxStatusRequest {
                pod_sandbox_id: pod.clone(),
                verbose: false,
            };
            daemon
                .service
                .pod_sandbox_status(Request::new(request))
                .await
        };
        let status = daemon.block_on(read).unwrap().into_inner();
        assert!(status.timestamp >= event.created_at);
        assert_eq!(status.containers_statuses, event.containers_statuses);
        daemon.remove(&c).unwrap();
        assert!(next(&daemon, &mut events).created_at >= status.timestamp);
    }
}

#[test]
fn an_end_while_no_daemon_ran_is_told_to_the_first_who_asks() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.run_pod(&host_pod("a")).unwrap();
    let c = daemon.create(&pod, &container("c")).unwrap();
    let other = daemon.create(&pod, &container("other")).unwrap();
    daemon.start(&c).unwrap();
    daemon.start(&other).unwrap();
    daemon.kill();
    node.shims.exit(&pod, &c, 42);
    let daemon = node.start();
    let mut events = subscribe(&daemon);
    let event = next(&daemon, &mut events);
    assert_eq!(event.container_event_type(), Kind::ContainerStoppedEvent);
    assert_eq!(event.container_id, c);
    let status = event
        .containers_statuses
        .iter()
        .find(|status| status.id == c);
    assert_eq!(status.unwrap().exit_code, 42);
    // What is as it was is no news.
    node.shims.exit(&pod, &other, 1);
    assert_eq!(next(&daemon, &mut events).container_id, other);
}

#[test]
fn calls_and_the_phases_of_a_pods_start_are_counted() {
    let node = Node::new();
    node.network(
        r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.3/24"}]}'
exit 0"#,
    );
    let daemon = node.start();
    let pod = daemon.run_pod(&support::pod("a")).unwrap();
    let c = daemon.create(&pod, &container("c")).unwrap();
    daemon.start(&c).unwrap();
    daemon.status("none").unwrap_err();
    let metrics = &daemon.daemon.telemetry.metrics;
    for phase in Phase::ALL {
        assert_eq!(metrics.phase(phase).count(), 1, "{}", phase.name());
    }
    let store = skiff_image::Store::open(&node.path("scraped"), <_>::default()).unwrap();
    let text = exposition::text(&daemon.daemon, &store).unwrap();
    for line in [
        "skiff_operations_total{operation=\"StartContainer\"} 1",
        "skiff_operations_errors_total{operation=\"ContainerStatus\",code=\"NotFound\"} 1",
        "skiff_operation_duration_seconds_count{operation=\"RunPodSandbox\"} 1",
        "skiff_pod_start_phase_duration_seconds_bucket{le=\"+Inf\",phase=\"exec\"} 1",
        "skiff_pod_start_duration_seconds_count{handler=\"skiff\"} 1",
        "skiff_network_plugin_operation_duration_seconds_count{operation=\"ADD\"} 1",
        "skiff_pods{state=\"ready\"} 1",
        "skiff_containers{state=\"running\"} 1",
        "skiff_shims 1",
        "skiff_image_pulls_total{result=\"ok\"} 0",
        "skiff_container_events_dropped_total 0",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|written| written == line),
            "{line} not in\n{text}"
        );
    }
}
