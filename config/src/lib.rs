//! The daemon's configuration: keys, their defaults, and where they are read from.
//!
//! [`Config::load`] reads a TOML file and, after it, the `*.toml` files of the directory of the
//! same name with `.d` appended, in the order of their names: later ones win, key by key, and
//! lists are replaced whole. Command line flags ([`Overrides`]) win over all files.
//!
//! A running daemon that is asked to reads the files again and takes up some keys ([`Change`]); a
//! restart is how it takes up the others, and no pod notices one. What the files below
//! `config_path` and `conf_dir` say is always taken as it is now.
//!
//! Map: [`Config`] the whole file, `section` its tables, one a module; [`endpoint`], [`size`],
//! [`span`], [`sysctl`] and [`ulimit`] the types of values, `check` what is asked of values beyond
//! their type; `load` files, merging and errors; `reload` what changes
//! in a daemon that runs.
//!
//! Invariants: every key has a default, so an empty file is a complete one; a key that is not
//! known and a value that cannot be meant are refused with file, line and key, never passed over;
//! what [`Config`] holds has been checked, nobody checks it again.

#![forbid(unsafe_code)]

mod check;
mod config;
pub mod endpoint;
mod load;
mod reload;
mod section;
pub mod size;
pub mod span;
pub mod sysctl;
pub mod ulimit;

pub use config::{CgroupDriver, Config};
pub use endpoint::Endpoint;
pub use load::{ConfigError, DEFAULT_PATH, Loaded, Overrides};
pub use reload::{Change, Place, Places};
pub use section::{
    AbsolutePath, Cdi, Container, ContainerOverrides, Handler, HandlerName, Image, Log, LogFormat,
    LogLevel, Metrics, Network, Runtime, Shim, Stats, Streaming, Tracing,
};
pub use size::Size;
pub use span::Span;

/// The default configuration file, with a comment on every key.
pub const DEFAULT_FILE: &str = include_str!("../../dist/skiff.toml");
