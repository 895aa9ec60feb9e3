//! The sections of the file, one a module.

mod cdi;
mod container;
mod handler;
mod image;
mod log;
mod metrics;
mod network;
mod runtime;
mod stats;
mod streaming;
mod tracing;

pub use cdi::Cdi;
pub use container::Container;
pub use handler::{AbsolutePath, Handler, HandlerName, Overrides as ContainerOverrides};
pub use image::Image;
pub use log::{Log, LogFormat, LogLevel};
pub use metrics::Metrics;
pub use network::Network;
pub use runtime::{Runtime, Shim};
pub use stats::Stats;
pub use streaming::Streaming;
pub use tracing::Tracing;
