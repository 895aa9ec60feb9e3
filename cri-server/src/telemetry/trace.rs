//! Traces: a call continues its client's trace (W3C Trace Context, `traceparent` in the metadata, as
//! a kubelet sends it), and its phases are spans below it. They go to a collector over OTLP.
//!
//! What must hold: without a collector in the configuration nothing of this is there. With one, a
//! span that has ended goes into a queue, which a thread of its own empties; spans that do not fit,
//! and those that the collector does not take, are lost, and nobody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanKind, Status as SpanStatus, TraceContextExt, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter};
use tonic::Code;
use tonic::metadata::{KeyRef, MetadataMap};

use super::phase::Phase;

/// How long the last spans may take to be sent when the daemon ends.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(5);

/// The configured collector cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("trace to {endpoint} (tracing.endpoint)")]
pub struct TraceError {
    endpoint: String,
    #[source]
    source: ExporterBuildError,
}

/// Makes spans.
#[derive(Debug)]
pub struct Tracer {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    lost: Arc<AtomicU64>,
}

tokio::task_local! {
    /// The span of the call that this task answers.
    static CURRENT: Parent;
}

/// A span that others are below.
#[derive(Debug, Clone)]
pub struct Parent {
    tracer: SdkTracer,
    context: Context,
}

/// The span of a call that is being answered.
#[derive(Debug)]
pub struct CallSpan(Parent);

impl Tracer {
    /// Sends spans to `endpoint`, `http://host:port`. Of calls that come without a trace so many of
    /// a million begin one; in others the client has decided. Needs a tokio runtime.
    pub fn start(endpoint: &str, per_million: u32) -> Result<Self, TraceError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|source| TraceError {
                endpoint: endpoint.into(),
                source,
            })?;
        let lost = Arc::default();
        let exporter = Collector {
            exporter,
            lost: Arc::clone(&lost),
            is_away: AtomicBool::new(false),
        };
        let ratio = Sampler::TraceIdRatioBased(f64::from(per_million) / 1e6);
        let resource = Resource::builder_empty()
            .with_service_name("skiffd")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_resource(resource)
            .build();
        Ok(Self {
            tracer: provider.tracer("skiff"),
            provider,
            lost,
        })
    }

    /// The span of a call; `None` when it is in no trace.
    pub fn call(&self, method: &'static str, metadata: &MetadataMap) -> Option<CallSpan> {
        let propagator = TraceContextPropagator::new();
        let client = propagator.extract_with_context(&Context::new(), &Metadata(metadata));
        let builder = SpanBuilder::from_name(method)
            .with_kind(SpanKind::Server)
            .with_attributes([KeyValue::new("rpc.system", "grpc")]);
        let span = self.tracer.build_with_context(builder, &client);
        span.span_context().is_sampled().then(|| {
            CallSpan(Parent {
                tracer: self.tracer.clone(),
                context: client.with_span(span),
            })
        })
    }

    /// Spans that a collector has not taken.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Sends what is in the queue; waits a little.
    pub fn end(&self) {
        // Whoever does not listen now will not get it.
        let _ = self.provider.shutdown_with_timeout(GOODBYE);
    }
}

impl CallSpan {
    /// Runs `work` so that [`current`] finds this span in it.
    pub async fn around<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.0.clone(), work).await
    }

    /// What the call is about.
    pub fn about(&self, key: &'static str, value: &str) {
        let attribute = KeyValue::new(key, value.to_owned());
        self.0.context.span().set_attribute(attribute);
    }

    /// The call has been answered.
    pub fn end(&self, code: Code, message: &str) {
        let span = self.0.context.span();
        let number = i64::from(code as i32);
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", number));
        if code != Code::Ok {
            span.set_status(SpanStatus::error(message.to_owned()));
        }
        span.end();
    }
}

/// The span of the call that this task answers, if it is in a trace.
pub fn current() -> Option<Parent> {
    CURRENT.try_with(Parent::clone).ok()
}

impl Parent {
    /// A phase below it, which began then and took so long.
    pub fn phase(&self, phase: Phase, began: Instant, took: Duration) {
        let began = SystemTime::now() - began.elapsed();
        let builder = SpanBuilder::from_name(phase.name())
            .with_kind(SpanKind::Internal)
            .with_start_time(began);
        let mut span = self.tracer.build_with_context(builder, &self.context);
        span.end_with_timestamp(began + took);
    }
}

/// Metadata of a request, as the propagator reads it.
struct Metadata<'a>(&'a MetadataMap);

impl Extractor for Metadata<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        let keys = self.0.keys().filter_map(|key| match key {
            KeyRef::Ascii(key) => Some(key.as_str()),
            KeyRef::Binary(_) => None,
        });
        keys.collect()
    }
}

/// The collector; when it does not answer, that is logged once, and what is lost is counted.
#[derive(Debug)]
struct Collector {
    exporter: opentelemetry_otlp::SpanExporter,
    lost: Arc<AtomicU64>,
    is_away: AtomicBool,
}

impl SpanExporter for Collector {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        match &result {
            Ok(()) => self.is_away.store(false, Ordering::Relaxed),
            Err(error) => {
                self.lost.fetch_add(spans, Ordering::Relaxed);
                if !self.is_away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the collector of traces does not take them");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
