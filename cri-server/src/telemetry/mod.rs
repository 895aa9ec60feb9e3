//! What the daemon tells of itself: its log on standard error, where journald picks it up, and
//! what it counts ([`metrics`], [`phase`]) for those who scrape it ([`server`], [`exposition`]), and
//! traces ([`trace`]).

pub mod exposition;
pub mod histogram;
pub mod metrics;
pub mod phase;
pub mod server;
pub mod trace;

use std::error::Error;

use skiff_config::{Log, LogFormat, LogLevel};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

pub use histogram::Histogram;
pub use metrics::{Metrics, NetworkOperation};
pub use phase::{Phase, Timeline};
pub use trace::{TraceError, Tracer};

/// Where everything that happens is put down.
#[derive(Debug)]
pub struct Telemetry {
    /// What is counted.
    pub metrics: Metrics,
    /// Who makes traces; `None` when nobody is to get them.
    pub tracer: Option<Tracer>,
}

impl Telemetry {
    /// For the calls of these names, with traces as configured. Needs a tokio runtime.
    pub fn new(
        operations: impl IntoIterator<Item = &'static str>,
        tracing: &skiff_config::Tracing,
    ) -> Result<Self, TraceError> {
        let skiff_config::Tracing {
            endpoint,
            sampling_rate_per_million,
        } = tracing;
        let tracer = match &**endpoint {
            "" => None,
            endpoint => Some(Tracer::start(endpoint, *sampling_rate_per_million)?),
        };
        Ok(Self {
            metrics: Metrics::new(operations),
            tracer,
        })
    }
}

/// The daemon's log, whose level can be changed.
#[derive(Clone)]
pub struct Logging(reload::Handle<EnvFilter, Registry>);

impl Logging {
    /// From now on only messages of this importance and more.
    pub fn set_level(&self, level: LogLevel) -> Result<(), LoggingError> {
        Ok(self.0.reload(filter(level)?)?)
    }
}

/// Why the log cannot be had as it is wanted.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// No filter for the level.
    #[error("make a filter of messages")]
    Filter(#[from] ParseError),
    /// There is no log any more.
    #[error("change the filter of messages")]
    Change(#[from] reload::Error),
}

/// Starts logging. The level is that of the daemon's own crates; libraries speak up from
/// warnings on.
pub fn start(log: &Log) -> Result<Logging, LoggingError> {
    let (filter, handle) = reload::Layer::new(filter(log.level)?);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
    Ok(Logging(handle))
}

fn filter(level: LogLevel) -> Result<EnvFilter, ParseError> {
    let level = level.as_str();
    let mut filter = String::from("warn");
    for crate_name in [
        "skiffd",
        "skiff_cri_server",
        "skiff_image",
        "skiff_cni",
        "skiff_spec",
    ] {
        filter.push_str(&format!(",{crate_name}={level}"));
    }
    EnvFilter::try_new(filter)
}

/// An error with its causes in one line. A cause that the line has already told is left out: some
/// errors print theirs themselves.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn a_chain_tells_every_cause_once() {
        let inner = Layer("no space left", None);
        let middle = Layer("write /a: no space left", Some(Box::new(inner)));
        let outer = Layer("create container c", Some(Box::new(middle)));
        assert_eq!(chain(&outer), "create container c: write /a: no space left");
    }
}
