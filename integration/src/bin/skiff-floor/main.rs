//! The floor under a pod's start and an exec: the system calls that no runtime can do without, and
//! nothing else, in one program that stays.
//!
//! A start is a cgroup with its limits, a detached overlay, one clone3 into the cgroup and the new
//! namespaces, the mounts of a default container, pivot_root and execve; it ends when the execve
//! has closed a pipe. An exec is a clone3 into the container's cgroup and namespaces, execve, and
//! the wait for the program's end.
//!
//! Must hold: one thread, because its children run Rust code between clone3 and execve.

mod container;
mod sys;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use skiff_integration::figures::{self, Column};

use container::{Container, Place};

/// Measures the floor under a pod's start and an exec. Its rows are named like those of
/// `skiff-perf pods`.
#[derive(Debug, Parser)]
struct Options {
    /// A lower directory with static programs /bin/true and /bin/sleep, uppermost first
    /// (repeatable).
    #[arg(long, required = true, value_name = "DIR")]
    lower: Vec<PathBuf>,
    /// Made for the writable layers and removed in the end; on a file system that overlay accepts.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The cgroup in which the containers' cgroups are made.
    #[arg(long, default_value = "/sys/fs/cgroup")]
    cgroup_parent: PathBuf,
    /// Set CPU and memory limits.
    #[arg(long)]
    limits: bool,
    /// How many containers are started.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Pause before each start and each exec, in milliseconds.
    #[arg(long, default_value_t = 200)]
    idle_ms: u64,
    /// Write every measurement here.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let place = Place::new(
        &options.lower,
        &options.dir,
        &options.cgroup_parent,
        options.limits,
    )?;
    let columns = [("floor", false), ("floor, new network", true)]
        .map(|(name, network)| measure(&options, &place, Column::new(name), network));
    place.remove()?;
    let columns = columns.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    write!(std::io::stdout(), "{}", figures::table(&columns))?;
    if let Some(path) = &options.json {
        std::fs::write(path, figures::to_lines(&columns))
            .with_context(|| format!("write {path:?}"))?;
    }
    Ok(())
}

/// The rows that a runtime's calls are compared with. The first round warms caches.
fn measure(
    options: &Options,
    place: &Place,
    mut column: Column,
    network: bool,
) -> anyhow::Result<Column> {
    let idle = || std::thread::sleep(Duration::from_millis(options.idle_ms));
    for round in 0..=options.rounds {
        idle();
        let began = Instant::now();
        let container = Container::start(place, network)?;
        column.push("= pod start, all three", began.elapsed());
        idle();
        let began = Instant::now();
        let exec = container.exec(place);
        column.push("ExecSync true", began.elapsed());
        let began = Instant::now();
        container.end(place)?;
        column.push("= container end, both", began.elapsed());
        place.clear()?;
        exec?;
        if round == 0 {
            column.clear();
        }
    }
    Ok(column)
}
