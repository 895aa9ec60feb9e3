//! What a daemon weighs without and with pods, and what its helper for each pod weighs.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use skiff_integration::client::Cri;
use skiff_integration::process;

use crate::pods::{Shape, discard};

/// What the kernel and the runtimes need to come to rest after pods were made.
const SETTLE: Duration = Duration::from_secs(2);

/// Options of `memory`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    endpoints: super::Endpoints,
    #[command(flatten)]
    shape: Shape,
    /// A runtime's daemon and its helper, as their command lines begin (repeatable).
    #[arg(long = "processes", value_name = "NAME=DAEMON,HELPER", value_parser = super::name_and_value)]
    processes: Vec<(String, String)>,
    /// How many pods stand while memory is read.
    #[arg(long, default_value_t = 10)]
    pods: usize,
}

/// Measures the runtimes one after the other. Pods are removed also after an error.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    for (name, mut cri) in options.endpoints.connect().await? {
        let mut pairs = options.processes.iter();
        let pair = pairs.find_map(|(runtime, pair)| (*runtime == name).then_some(pair));
        let names = pair.and_then(|pair| pair.split_once(','));
        let (daemon, helper) =
            names.with_context(|| format!("--processes {name}=DAEMON,HELPER is missing"))?;
        let outcome = weigh(options, &mut cri, daemon, helper).await;
        let removed = discard(&mut cri).await;
        let line = outcome.with_context(|| name.clone())?;
        removed.with_context(|| format!("{name}: remove what is left"))?;
        writeln!(std::io::stdout(), "{name}: {line}")?;
    }
    Ok(())
}

async fn weigh(
    options: &Options,
    cri: &mut Cri,
    daemon: &str,
    helper: &str,
) -> anyhow::Result<String> {
    options.shape.pull(cri).await?;
    tokio::time::sleep(SETTLE).await;
    let idle = resident(daemon)?;
    for number in 0..options.pods {
        let (pod, container) = options.shape.requests(&format!("memory-{number}"));
        let id = cri.run_pod(&pod).await?;
        let container = cri.create(&id, &container, &pod).await?;
        cri.start(&container).await?;
    }
    tokio::time::sleep(SETTLE).await;
    let busy = resident(daemon)?;
    let mut unique: Vec<u64> = process::running(helper)
        .into_iter()
        .filter_map(process::unique)
        .collect();
    unique.sort_unstable();
    if unique.len() < options.pods {
        bail!(
            "{} pods, but {} processes {helper}",
            options.pods,
            unique.len()
        );
    }
    Ok(format!(
        "{daemon} {:.1} MB resident idle, {:.1} MB with {} pods; {} x {helper}, unique to each: \
         median {:.2} MB, most {:.2} MB",
        megabytes(idle),
        megabytes(busy),
        options.pods,
        unique.len(),
        megabytes(unique[unique.len() / 2]),
        megabytes(unique[unique.len() - 1]),
    ))
}

fn resident(daemon: &str) -> anyhow::Result<u64> {
    let pids = process::running(daemon);
    let [pid] = pids[..] else {
        bail!("{} processes {daemon}, expected one", pids.len());
    };
    process::resident(pid).with_context(|| format!("read the memory of process {pid}"))
}

/// Mebibytes, for a figure with one or two decimals.
#[allow(clippy::cast_precision_loss, reason = "a figure with two decimals")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
