//! Shows that a client's trace goes on in skiffd: collects the spans of a pod's start and looks that
//! each belongs where it should.

#![forbid(unsafe_code)]

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use opentelemetry_proto::tonic::trace::v1::Span;
use skiff_cri::v1::{
    CreateContainerRequest, RunPodSandboxRequest, StartContainerRequest, StopPodSandboxRequest,
};
use skiff_integration::client::{self, BUSYBOX, Cri};
use skiff_integration::collector::Collector;
use tonic::Request;

/// The trace of this program, and its span.
const TRACE: [u8; 16] = [0x5a; 16];
const SPAN: [u8; 8] = [0xa5; 8];

/// Calls, and the phases below each.
const EXPECTED: [(&str, &[&str]); 3] = [
    ("RunPodSandbox", &["spare", "netns", "cni"]),
    ("CreateContainer", &["rootfs", "cgroup", "clone", "init"]),
    ("StartContainer", &["exec"]),
];

/// How long spans may be under way: they are sent every five seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Collects the spans of a pod's start from a skiffd that sends them here.
#[derive(Debug, Parser)]
struct Options {
    /// skiffd's socket.
    #[arg(long)]
    endpoint: String,
    /// Where skiffd sends traces.
    #[arg(long)]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let collector = Collector::start(options.listen)?;
    let mut cri = Cri::connect(&options.endpoint).await?;
    cri.pull(BUSYBOX).await?;
    let pod = start(&mut cri).await;
    // A call outside of any trace makes no span.
    let listed = cri
        .runtime
        .version(skiff_cri::v1::VersionRequest::default());
    listed.await?;
    let spans = async {
        let mut result = check(&collector.spans());
        while result.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
            result = check(&collector.spans());
        }
    };
    let arrived = tokio::time::timeout(PATIENCE, spans).await;
    for span in collector.spans() {
        let took = Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano);
        writeln!(std::io::stdout(), "{:<16} {took:?}", span.name)?;
    }
    cri.discard_pod(&pod?).await?;
    if arrived.is_err() {
        check(&collector.spans())?;
    }
    Ok(())
}

/// Starts a pod with a container, each call as a part of the trace.
async fn start(cri: &mut Cri) -> anyhow::Result<String> {
    let config = client::pod("traced");
    std::fs::create_dir_all(&config.log_directory)?;
    let container = client::container("main", &["sleep", "3600"], &config);
    let request = traced(RunPodSandboxRequest {
        config: Some(config.clone()),
        ..Default::default()
    });
    let pod = cri.runtime.run_pod_sandbox(request).await?;
    let pod = pod.into_inner().pod_sandbox_id;
    let request = traced(CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(container),
        sandbox_config: Some(config),
    });
    let created = cri.runtime.create_container(request).await?;
    let container_id = created.into_inner().container_id;
    let request = traced(StartContainerRequest { container_id });
    cri.runtime.start_container(request).await?;
    let mut unsampled = Request::new(StopPodSandboxRequest {
        pod_sandbox_id: "none".into(),
    });
    let metadata = unsampled.metadata_mut();
    metadata.insert("traceparent", parent(0).parse()?);
    cri.runtime.stop_pod_sandbox(unsampled).await?;
    Ok(pod)
}

/// A `traceparent` (W3C Trace Context, section 3.2) with these flags.
fn parent(flags: u8) -> String {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    format!("00-{}-{}-{flags:02x}", hex(&TRACE), hex(&SPAN))
}

fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(parent) = parent(1).parse() {
        request.metadata_mut().insert("traceparent", parent);
    }
    request
}

/// Whether all spans are there, where they should be, and no others.
fn check(spans: &[Span]) -> anyhow::Result<()> {
    let named = |name: &str| spans.iter().find(|span| span.name == name);
    let mut expected = 0;
    for (call, phases) in EXPECTED {
        let call = named(call).with_context(|| format!("no span {call}"))?;
        if call.trace_id != TRACE || call.parent_span_id != SPAN {
            bail!("span {} is not below ours: {call:?}", call.name);
        }
        for phase in phases {
            let phase = named(phase).with_context(|| format!("no span {phase}"))?;
            if phase.trace_id != TRACE || phase.parent_span_id != call.span_id {
                bail!("span {} is not below {}: {phase:?}", phase.name, call.name);
            }
        }
        expected += 1 + phases.len();
    }
    if spans.len() != expected {
        bail!("{} spans, {expected} expected", spans.len());
    }
    Ok(())
}
