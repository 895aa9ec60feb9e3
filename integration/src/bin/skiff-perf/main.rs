//! Measures what a kubelet waits for, on any CRI runtime: the calls of a pod's life, pulls, and
//! the memory that pods cost.
//!
//! Runtimes take turns round by round, so that whatever else the machine does hits all of them,
//! with a pause before each round: a runtime that migrates processes between cgroups looks fast in
//! a tight loop and costs milliseconds after the node has been quiet. The first round warms caches
//! and is not counted.

#![forbid(unsafe_code)]

mod events;
mod image;
mod memory;
mod plugins;
mod pods;
mod probes;
mod pull;
mod stats;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use skiff_integration::client::Cri;
use skiff_integration::figures::{self, Column};

/// Measures any CRI runtime.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The calls of a pod's life.
    Pods(pods::Options),
    /// How soon a client hears of the end of a container.
    Events(events::Options),
    /// Cold pulls of one image, and the daemon's peak memory in them.
    Pull(pull::Options),
    /// What daemon and per-pod helpers weigh.
    Memory(memory::Options),
    /// Lists of stats, and what it costs to have them ready.
    Stats(stats::Options),
    /// What exec probes cost.
    Probes(probes::Options),
    /// Writes the image that pulls are compared with.
    Image(image::Options),
    /// The CNI plugins of a network, without any runtime.
    Plugins(plugins::Options),
    /// Put files written by --json side by side.
    Table {
        /// Files, in the order of the columns.
        files: Vec<PathBuf>,
    },
}

/// Runtimes by name.
#[derive(Debug, Args)]
struct Endpoints {
    /// A runtime: its name in the table, and its socket (repeatable).
    #[arg(long = "endpoint", value_name = "NAME=unix://PATH", required = true, value_parser = name_and_value)]
    endpoints: Vec<(String, String)>,
}

impl Endpoints {
    async fn connect(&self) -> anyhow::Result<Vec<(String, Cri)>> {
        let mut runtimes = Vec::new();
        for (name, endpoint) in &self.endpoints {
            let cri = Cri::connect(endpoint)
                .await
                .with_context(|| format!("connect to {name} at {endpoint}"))?;
            runtimes.push((name.clone(), cri));
        }
        Ok(runtimes)
    }
}

/// `NAME=VALUE`.
fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Prints the table; writes the measurements to `json`.
fn report(columns: &[Column], json: Option<&PathBuf>) -> anyhow::Result<()> {
    write!(std::io::stdout(), "{}", figures::table(columns))?;
    if let Some(path) = json {
        std::fs::write(path, figures::to_lines(columns))
            .with_context(|| format!("write {path:?}"))?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Options::parse().command {
        Command::Pods(options) => pods::run(&options).await,
        Command::Events(options) => events::run(&options).await,
        Command::Pull(options) => pull::run(&options).await,
        Command::Image(options) => image::run(&options),
        Command::Memory(options) => memory::run(&options).await,
        Command::Stats(options) => stats::run(&options).await,
        Command::Probes(options) => probes::run(&options).await,
        Command::Plugins(options) => plugins::run(&options),
        Command::Table { files } => {
            let mut columns = Vec::new();
            for file in &files {
                figures::read_lines(file, &mut columns)?;
            }
            report(&columns, None)
        }
    }
}
