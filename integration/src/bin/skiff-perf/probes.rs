//! What exec probes cost: processor time of a runtime's own processes while every container is asked
//! once a second. What runs in the containers is not counted.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use skiff_integration::cgroup::processor_time;
use skiff_integration::client::Cri;
use skiff_integration::figures::Column;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::pods::{Shape, discard};

/// What the kernel and the runtimes need to come to rest after pods were made.
const SETTLE: Duration = Duration::from_secs(5);
/// How often a container is asked.
const PERIOD: Duration = Duration::from_secs(1);

/// Options of `probes`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    endpoints: super::Endpoints,
    #[command(flatten)]
    shape: Shape,
    /// The cgroup that a runtime and all its helpers are in (repeatable).
    #[arg(long = "cgroup", value_name = "NAME=PATH", value_parser = super::name_and_value)]
    cgroups: Vec<(String, String)>,
    /// How many containers are asked, of each runtime.
    #[arg(long, default_value_t = 100)]
    containers: usize,
    /// For how many seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Write every measurement here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Measures the runtimes one after the other. Pods are removed also after an error.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut columns = Vec::new();
    for (name, mut cri) in options.endpoints.connect().await? {
        let mut cgroups = options.cgroups.iter();
        let cgroup = cgroups.find_map(|(runtime, cgroup)| (*runtime == name).then_some(cgroup));
        let cgroup = cgroup.with_context(|| format!("--cgroup {name}=PATH is missing"))?;
        let outcome = measure(options, &name, &mut cri, Path::new(cgroup)).await;
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
    cgroup: &Path,
) -> anyhow::Result<Column> {
    options.shape.pull(cri).await?;
    let mut containers = Vec::new();
    for number in 0..options.containers {
        let (pod, container) = options.shape.requests(&format!("probes-{number}"));
        let pod_id = cri.run_pod(&pod).await?;
        let id = cri.create(&pod_id, &container, &pod).await?;
        cri.start(&id).await?;
        containers.push(id);
    }
    tokio::time::sleep(SETTLE).await;
    let before = processor_time(cgroup)?;
    let mut askers = JoinSet::new();
    let until = Instant::now() + Duration::from_secs(options.seconds);
    for (number, id) in containers.into_iter().enumerate() {
        // Spread over the period, as a kubelet's are.
        let offset = PERIOD * u32::try_from(number)? / u32::try_from(options.containers)?;
        askers.spawn(ask(cri.clone(), id, offset, until));
    }
    let mut probes = 0;
    while let Some(asked) = askers.join_next().await {
        probes += asked??;
    }
    let used = processor_time(cgroup)?.saturating_sub(before);
    let mut column = Column::new(name);
    column.push("processor time of an exec probe", used / probes.max(1));
    Ok(column)
}

/// Asks a container until then, and gives how often.
async fn ask(mut cri: Cri, id: String, offset: Duration, until: Instant) -> anyhow::Result<u32> {
    tokio::time::sleep(offset).await;
    let mut turns = tokio::time::interval(PERIOD);
    turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut asked = 0;
    while Instant::now() < until {
        turns.tick().await;
        let answer = cri.exec(&id, &["true"], 0).await?;
        ensure!(
            answer.exit_code == 0,
            "`true` ended with {}",
            answer.exit_code
        );
        asked += 1;
    }
    Ok(asked)
}
