//! The metrics of `/metrics/cadvisor`, which a kubelet with `PodAndContainerStatsFromCRI` takes from
//! the runtime (KEP-2371).
//!
//! Names and meanings are cAdvisor's, labels those that runtimes have agreed on. Values are whole
//! numbers in the CRI, so seconds are, too: a counter tells the last full one.
//!
//! Map: [`table`] every metric there is; [`values`] what they are made of.

pub mod table;
mod values;

pub use values::{Filesystem, Processes, Spec, cgroup, container, filesystem, network};

use skiff_cri::v1 as cri;

use crate::value;

/// The labels that every metric has, before its own.
const LABELS: [&str; 5] = ["id", "image", "namespace", "pod", "container"];

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    name: &'static str,
    kind: cri::MetricType,
    /// Names of labels that only some metrics have.
    labels: &'static [&'static str],
    help: &'static str,
}

impl Metric {
    /// In the words of the CRI.
    pub fn descriptor(&self) -> cri::MetricDescriptor {
        let labels = LABELS.iter().chain(self.labels);
        cri::MetricDescriptor {
            name: self.name.into(),
            help: self.help.into(),
            label_keys: labels.map(ToString::to_string).collect(),
        }
    }
}

/// Whose metrics they are.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// Id of the container, or of the pod.
    pub id: String,
    /// Name of the image; empty for a pod.
    pub image: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name; empty for what a pod uses as a whole.
    pub container: String,
}

/// Metrics in the making.
#[derive(Debug)]
pub struct Sheet {
    labels: [String; LABELS.len()],
    at: i64,
    metrics: Vec<cri::Metric>,
}

impl Sheet {
    /// An empty one. `at` is when the values were read, nanoseconds since the epoch.
    pub fn new(subject: Subject, at: i64) -> Self {
        let Subject {
            id,
            image,
            namespace,
            pod,
            container,
        } = subject;
        Self {
            labels: [id, image, namespace, pod, container],
            at,
            metrics: Vec::new(),
        }
    }

    /// Adds a value, with those of the metric's own labels.
    fn put<const N: usize>(&mut self, metric: &Metric, labels: [&str; N], number: u64) {
        debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
        let own = labels.iter().map(ToString::to_string);
        self.metrics.push(cri::Metric {
            name: metric.name.into(),
            timestamp: self.at,
            metric_type: metric.kind.into(),
            label_values: self.labels.iter().cloned().chain(own).collect(),
            value: value(number),
        });
    }

    /// Adds a value if there is one.
    fn maybe(&mut self, metric: &Metric, number: Option<u64>) {
        if let Some(number) = number {
            self.put(metric, [], number);
        }
    }

    /// Adds microseconds as whole seconds.
    fn seconds(&mut self, metric: &Metric, microseconds: u64) {
        self.put(metric, [], microseconds / 1_000_000);
    }

    /// All that were added.
    pub fn finish(self) -> Vec<cri::Metric> {
        self.metrics
    }
}

/// Descriptors of all metrics, always the same.
pub fn descriptors() -> Vec<cri::MetricDescriptor> {
    table::ALL
        .iter()
        .map(|metric| metric.descriptor())
        .collect()
}
