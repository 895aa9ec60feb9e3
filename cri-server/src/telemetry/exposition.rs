//! The counters as text, for whoever scrapes them: OpenMetrics, which Prometheus reads.
//!
//! What must hold: a scrape reads what readers of the CRI read, and no operation waits for it.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::metrics::{Metrics, NetworkOperation, Work};
use super::phase::Phase;
use super::trace::Tracer;
use crate::daemon::Daemon;
use crate::pod::State as PodState;
use skiff_cri::v1::ContainerState;

/// Media type of [`text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a daemon, as they are now.
pub fn text(daemon: &Arc<Daemon>, images: &Arc<skiff_image::Store>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("skiff");
    registry.register_collector(Box::new(Scrape {
        daemon: Arc::clone(daemon),
        images: Arc::clone(images),
    }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

struct Scrape {
    daemon: Arc<Daemon>,
    images: Arc<skiff_image::Store>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(&mut encoder);
        let metrics = &self.daemon.telemetry.metrics;
        out.info(
            "build",
            "The daemon's version.",
            &[("version", env!("CARGO_PKG_VERSION"))],
        )?;
        operations(&mut out, metrics)?;
        out.histograms(
            "pod_start_phase_duration",
            "How long a part of the start of a pod with its containers took.",
            "phase",
            Phase::ALL.map(|phase| (phase.name(), metrics.phase(phase))),
        )?;
        pod_starts(&mut out, metrics)?;
        network(&mut out, metrics)?;
        self.pulls(&mut out, &metrics.pulls)?;
        self.inventory(&mut out)?;
        let events = &self.daemon.events;
        let help = "Events that subscribers missed because they did not read.";
        out.counter("container_events_dropped", help, events.dropped())?;
        let help = "Streams of events that clients have open.";
        out.gauge("container_event_subscribers", help, events.subscribers())?;
        let tracer = self.daemon.telemetry.tracer.as_ref();
        let help = "Spans that the collector of traces did not take.";
        out.counter("trace_spans_lost", help, tracer.map_or(0, Tracer::lost))
    }
}

impl Scrape {
    fn pulls(&self, out: &mut Out<'_, '_>, pulls: &Work) -> fmt::Result {
        let help = "Image pulls by their result.";
        let results = [("ok", pulls.took.count()), ("error", pulls.failures())];
        out.counters("image_pulls", help, "result", results)?;
        let help = "How long image pulls took that went well.";
        out.histogram("image_pull_duration", help, &pulls.took)?;
        let help = "Bytes of layers that were downloaded.";
        out.counter("image_pull_bytes", help, self.images.downloaded())
    }

    /// What there is.
    fn inventory(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let mut pods = [("ready", 0), ("notready", 0)];
        let mut containers = [
            ("created", 0),
            ("running", 0),
            ("exited", 0),
            ("unknown", 0),
        ];
        let mut shims = 0;
        for pod in self.daemon.store.pods() {
            let view = pod.view();
            if !view.is_visible() {
                continue;
            }
            pods[usize::from(view.state != PodState::Ready)].1 += 1;
            shims += usize::from(view.shim.is_some());
            for container in view.containers.values() {
                let at = match container.cri_state() {
                    ContainerState::ContainerCreated => 0,
                    ContainerState::ContainerRunning => 1,
                    ContainerState::ContainerExited => 2,
                    ContainerState::ContainerUnknown => 3,
                };
                containers[at].1 += 1;
            }
        }
        out.gauges("pods", "Pods by their state.", "state", pods)?;
        out.gauges(
            "containers",
            "Containers by their state.",
            "state",
            containers,
        )?;
        out.gauge("shims", "Shims that monitor a pod.", shims)?;
        let spares = self.daemon.pool.spares();
        out.gauge("spare_shims", "Shims that wait for a pod.", spares)
    }
}

fn operations(out: &mut Out<'_, '_>, metrics: &Metrics) -> fmt::Result {
    out.counters(
        "operations",
        "Calls of the CRI that were answered.",
        "operation",
        metrics
            .operations()
            .map(|(name, operation)| (name, operation.took.count())),
    )?;
    let mut errors = out.descriptor(
        "operations_errors",
        "Calls of the CRI that failed, by the code of their status.",
        None,
        MetricType::Counter,
    )?;
    for (name, operation) in metrics.operations() {
        for (code, number) in operation.errors() {
            let code = format!("{code:?}");
            let labels = [("operation", name), ("code", &*code)];
            let mut family = errors.encode_family(&labels)?;
            family.encode_counter::<NoLabelSet, _, u64>(&number, None)?;
        }
    }
    out.histograms(
        "operation_duration",
        "How long answers to calls of the CRI took.",
        "operation",
        metrics
            .operations()
            .map(|(name, operation)| (name, &operation.took)),
    )
}

fn pod_starts(out: &mut Out<'_, '_>, metrics: &Metrics) -> fmt::Result {
    let all = metrics.all_pod_starts();
    out.histograms(
        "pod_start_duration",
        "How long RunPodSandbox took when it succeeded.",
        "handler",
        all.iter().map(|(name, work)| (name, &work.took)),
    )?;
    out.counters(
        "pod_starts_errors",
        "How often RunPodSandbox failed.",
        "handler",
        all.iter().map(|(name, work)| (name, work.failures())),
    )
}

fn network(out: &mut Out<'_, '_>, metrics: &Metrics) -> fmt::Result {
    let all =
        || NetworkOperation::ALL.map(|operation| (operation.name(), metrics.network(operation)));
    out.histograms(
        "network_plugin_operation_duration",
        "How long the plugins of a pod's network took when they succeeded.",
        "operation",
        all().map(|(name, work)| (name, &work.took)),
    )?;
    out.counters(
        "network_plugin_operations_errors",
        "How often the plugins of a pod's network failed.",
        "operation",
        all().map(|(name, work)| (name, work.failures())),
    )
}

/// Writes metrics of the kinds there are. Durations are in seconds, which their names say.
struct Out<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Out<'_, '_> {
    fn descriptor<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result {
        let mut info = self.descriptor(name, help, None, MetricType::Info)?;
        info.encode_info(&labels)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut counter = self.descriptor(name, help, None, MetricType::Counter)?;
        counter.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (impl AsRef<str>, u64)>,
    ) -> fmt::Result {
        let mut counters = self.descriptor(name, help, None, MetricType::Counter)?;
        for (value, number) in values {
            let labels = [(label, value.as_ref())];
            let mut family = counters.encode_family(&labels)?;
            family.encode_counter::<NoLabelSet, _, u64>(&number, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        let mut gauge = self.descriptor(name, help, None, MetricType::Gauge)?;
        gauge.encode_gauge(&value)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, usize)>,
    ) -> fmt::Result {
        let mut gauges = self.descriptor(name, help, None, MetricType::Gauge)?;
        for (value, number) in values {
            let labels = [(label, value)];
            gauges.encode_family(&labels)?.encode_gauge(&number)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &super::Histogram) -> fmt::Result {
        let metric = self.descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        histogram.encode(metric)
    }

    fn histograms<'h>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (impl AsRef<str>, &'h super::Histogram)>,
    ) -> fmt::Result {
        let mut family =
            self.descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (value, histogram) in values {
            let labels = [(label, value.as_ref())];
            histogram.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
