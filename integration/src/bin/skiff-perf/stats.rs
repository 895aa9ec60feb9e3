//! What the lists of stats take, and what it costs to have them ready: processor time of the daemon
//! and its helpers while nothing happens.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use skiff_cri::v1::{
    ListContainerStatsRequest, ListPodSandboxMetricsRequest, ListPodSandboxStatsRequest,
};
use skiff_integration::client::Cri;
use skiff_integration::figures::Column;
use skiff_integration::process;

use crate::pods::{Shape, discard};

/// What the kernel and the runtimes need to come to rest after pods were made.
const SETTLE: Duration = Duration::from_secs(15);
/// Between two questions of one kind.
const PAUSE: Duration = Duration::from_millis(200);

/// Options of `stats`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    endpoints: super::Endpoints,
    #[command(flatten)]
    shape: Shape,
    /// A runtime's daemon and its helper, as their command lines begin (repeatable).
    #[arg(long = "processes", value_name = "NAME=DAEMON,HELPER", value_parser = super::name_and_value)]
    processes: Vec<(String, String)>,
    /// How many pods there are.
    #[arg(long, default_value_t = 50)]
    pods: usize,
    /// How many containers each of them has.
    #[arg(long, default_value_t = 10)]
    containers: usize,
    /// For how long nothing happens, in seconds.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// How often each question is asked.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Write every measurement here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Measures the runtimes one after the other. Pods are removed also after an error.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut columns = Vec::new();
    for (name, mut cri) in options.endpoints.connect().await? {
        let mut pairs = options.processes.iter();
        let pair = pairs.find_map(|(runtime, pair)| (*runtime == name).then_some(pair));
        let names = pair.and_then(|pair| pair.split_once(','));
        let names =
            names.with_context(|| format!("--processes {name}=DAEMON,HELPER is missing"))?;
        let outcome = measure(options, &name, &mut cri, names).await;
        let removed = discard(&mut cri).await;
        columns.push(outcome.with_context(|| name.clone())?);
        removed.with_context(|| format!("{name}: remove what is left"))?;
    }
    super::report(&columns, options.json.as_ref())
}

async fn measure(
    options: &Options,
    name: &str,
    cri: &mut Cri,
    (daemon, helper): (&str, &str),
) -> anyhow::Result<Column> {
    options.shape.pull(cri).await?;
    for number in 0..options.pods {
        let (pod, container) = options.shape.requests(&format!("stats-{number}"));
        let id = cri.run_pod(&pod).await?;
        for number in 0..options.containers {
            let mut container = container.clone();
            container.metadata.get_or_insert_default().name = format!("c{number}");
            let container = cri.create(&id, &container, &pod).await?;
            cri.start(&container).await?;
        }
    }
    tokio::time::sleep(SETTLE).await;
    let (began, before) = (Instant::now(), used(daemon, helper)?);
    tokio::time::sleep(Duration::from_secs(options.idle)).await;
    let (passed, after) = (began.elapsed().as_secs_f64(), used(daemon, helper)?);
    let mut column = Column::new(name);
    for _ in 0..options.rounds {
        ask(options, cri, &mut column).await?;
    }
    let share = |before: f64, after: f64| 100.0 * (after - before) / passed;
    writeln!(
        std::io::stdout(),
        "{name}: {} pods of {} containers, idle for {passed:.0} s: {daemon} {:.3} % of a core, \
         {helper} {:.3} %",
        options.pods,
        options.containers,
        share(before.0, after.0),
        share(before.1, after.1),
    )?;
    Ok(column)
}

/// One question of each kind.
async fn ask(options: &Options, cri: &mut Cri, column: &mut Column) -> anyhow::Result<()> {
    let runtime = &mut cri.runtime;
    tokio::time::sleep(PAUSE).await;
    let began = Instant::now();
    let request = ListContainerStatsRequest { filter: None };
    let answer = runtime.list_container_stats(request).await?;
    column.push("ListContainerStats", began.elapsed());
    let (told, expected) = (
        answer.into_inner().stats.len(),
        options.pods * options.containers,
    );
    if told != expected {
        bail!("stats of {told} containers, not {expected}");
    }
    tokio::time::sleep(PAUSE).await;
    let began = Instant::now();
    let request = ListPodSandboxStatsRequest { filter: None };
    runtime.list_pod_sandbox_stats(request).await?;
    column.push("ListPodSandboxStats", began.elapsed());
    tokio::time::sleep(PAUSE).await;
    let began = Instant::now();
    let request = ListPodSandboxMetricsRequest {};
    // Not every runtime has them.
    if runtime.list_pod_sandbox_metrics(request).await.is_ok() {
        column.push("ListPodSandboxMetrics", began.elapsed());
    }
    Ok(())
}

/// Seconds of processor time used by the daemon, and by all its helpers.
fn used(daemon: &str, helper: &str) -> anyhow::Result<(f64, f64)> {
    let sum = |name: &str| {
        let pids = process::running(name).into_iter();
        pids.filter_map(seconds).sum::<f64>()
    };
    if process::running(daemon).is_empty() {
        bail!("no process {daemon}");
    }
    Ok((sum(daemon), sum(helper)))
}

/// Seconds that a process has run, of all its threads (`/proc/<pid>/task/*/schedstat`: the first
/// number is nanoseconds; clock ticks would be too coarse).
fn seconds(pid: u32) -> Option<f64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let tasks = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    Some(tasks.sum::<f64>() / 1e9)
}
