//! Traces that go on in the daemon, and a collector that does not answer.

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use skiff_cri::v1 as cri;
use skiff_cri::v1::runtime_service_server::RuntimeService;
use support::{Node, Running, container, host_pod};
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{Request, Response, Status};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A collector on a port of the kernel's choice, with a runtime of its own.
struct Collector {
    _runtime: tokio::runtime::Runtime,
    endpoint: String,
    spans: Spans,
}

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        self.0
            .lock()
            .unwrap()
            .extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let spans = Spans::default();
        let _entered = runtime.enter();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let endpoint = format!("http://{}", incoming.local_addr().unwrap());
        let service = TraceServiceServer::new(spans.clone());
        let server = Server::builder().add_service(service);
        runtime.spawn(server.serve_with_incoming(incoming));
        drop(_entered);
        Self {
            _runtime: runtime,
            endpoint,
            spans,
        }
    }

    /// What the daemon has sent when it is told to send all.
    fn spans(&self, daemon: &Running) -> Vec<Span> {
        send(daemon);
        self.spans.0.lock().unwrap().clone()
    }
}

/// Has a daemon send what it has, as at its end.
fn send(daemon: &Running) {
    let tracer = &daemon.daemon.telemetry.tracer;
    tracer.as_ref().unwrap().end();
}

fn run_pod(daemon: &Running, traceparent: &str) -> String {
    let mut request = Request::new(cri::RunPodSandboxRequest {
        config: Some(host_pod("a")),
        ..Default::default()
    });
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", traceparent.parse().unwrap());
    let answer = daemon.block_on(daemon.service.run_pod_sandbox(request));
    answer.unwrap().into_inner().pod_sandbox_id
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_clients_trace_goes_on_to_the_phases_of_a_pods_start() {
    let collector = Collector::start();
    let mut node = Node::new();
    node.tracing.endpoint.clone_from(&collector.endpoint);
    let daemon = node.start();
    run_pod(&daemon, &format!("00-{TRACE}-{SPAN}-01"));
    let spans = collector.spans(&daemon);
    let call = spans.iter().find(|span| span.name == "RunPodSandbox");
    let call = call.unwrap();
    assert_eq!(hex(&call.trace_id), TRACE);
    assert_eq!(hex(&call.parent_span_id), SPAN);
    assert!(
        call.attributes
            .iter()
            .any(|a| a.key == "k8s.namespace.name")
    );
    for name in ["spare", "netns"] {
        let phase = spans.iter().find(|span| span.name == name).unwrap();
        assert_eq!(hex(&phase.trace_id), TRACE, "{name}");
        assert_eq!(phase.parent_span_id, call.span_id, "{name}");
        assert!(
            phase.start_time_unix_nano >= call.start_time_unix_nano,
            "{name}"
        );
        assert!(
            phase.end_time_unix_nano <= call.end_time_unix_nano,
            "{name}"
        );
    }
}

#[test]
fn what_the_client_does_not_sample_and_what_is_in_no_trace_makes_no_span() {
    let collector = Collector::start();
    let mut node = Node::new();
    node.tracing.endpoint.clone_from(&collector.endpoint);
    let daemon = node.start();
    let pod = run_pod(&daemon, &format!("00-{TRACE}-{SPAN}-00"));
    daemon.create(&pod, &container("c")).unwrap();
    assert_eq!(collector.spans(&daemon), []);
}

#[test]
fn calls_without_a_trace_begin_one_as_often_as_is_configured() {
    let collector = Collector::start();
    let mut node = Node::new();
    node.tracing.endpoint.clone_from(&collector.endpoint);
    node.tracing.sampling_rate_per_million = 1_000_000;
    let daemon = node.start();
    daemon.status("none").unwrap_err();
    let spans = collector.spans(&daemon);
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["ContainerStatus"]);
    assert!(spans[0].parent_span_id.is_empty());
    assert!(spans[0].status.as_ref().unwrap().message.contains("none"));
}

#[test]
fn a_collector_that_does_not_answer_holds_up_nobody() {
    // Connections are taken and never answered.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut node = Node::new();
    node.tracing.endpoint = format!("http://{}", listener.local_addr().unwrap());
    let daemon = node.start();
    let pod = run_pod(&daemon, &format!("00-{TRACE}-{SPAN}-01"));
    // Far more than fit in the queue.
    for _ in 0..5000 {
        let mut request = Request::new(cri::PodSandboxStatusRequest {
            pod_sandbox_id: pod.clone(),
            verbose: false,
        });
        let traceparent = format!("00-{TRACE}-{SPAN}-01").parse().unwrap();
        request.metadata_mut().insert("traceparent", traceparent);
        let status = daemon.service.pod_sandbox_status(request);
        daemon.block_on(status).unwrap();
    }
    let began = Instant::now();
    send(&daemon);
    assert!(began.elapsed() < Duration::from_secs(30));
}
