//! How soon a client hears of the end of a container: from the signal that kills its process to
//! the event.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use skiff_cri::v1::{
    ContainerEventResponse, ContainerEventType, ContainerStatusRequest, GetEventsRequest,
};
use skiff_integration::client::Cri;
use skiff_integration::figures::Column;
use tonic::Streaming;

use crate::pods::{Shape, discard};

/// Longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options of `events`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    endpoints: super::Endpoints,
    #[command(flatten)]
    shape: Shape,
    /// How many containers of each runtime are killed.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Pause before each kill, in milliseconds.
    #[arg(long, default_value_t = 200)]
    idle_ms: u64,
    /// Write every measurement here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Measures the runtimes in turn and prints the table. Pods are removed also after an error.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut columns = Vec::new();
    for (name, mut cri) in options.endpoints.connect().await? {
        let mut column = Column::new(&name);
        let outcome = rounds(options, &mut column, &mut cri).await;
        let removed = discard(&mut cri).await;
        outcome.with_context(|| name.clone())?;
        removed.with_context(|| format!("{name}: remove what is left"))?;
        columns.push(column);
    }
    super::report(&columns, options.json.as_ref())
}

async fn rounds(options: &Options, column: &mut Column, cri: &mut Cri) -> anyhow::Result<()> {
    options.shape.pull(cri).await?;
    // A runtime may not answer before it has something to tell.
    let mut client = cri.runtime.clone();
    let answer =
        tokio::spawn(async move { client.get_container_events(GetEventsRequest {}).await });
    let (pod, mut container) = options.shape.requests("events");
    let pod_id = cri.run_pod(&pod).await?;
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    let mut events = answer.context("GetContainerEvents")???.into_inner();
    for round in 0..=options.rounds {
        let metadata = container.metadata.get_or_insert_default();
        metadata.attempt = u32::try_from(round)?;
        let id = cri.create(&pod_id, &container, &pod).await?;
        cri.start(&id).await?;
        let pid = first_process(cri, &id).await?;
        wait(&mut events, &id, ContainerEventType::ContainerStartedEvent).await?;
        tokio::time::sleep(Duration::from_millis(options.idle_ms)).await;
        let began = Instant::now();
        kill_process(pid, Signal::KILL).context("kill the container's process")?;
        wait(&mut events, &id, ContainerEventType::ContainerStoppedEvent).await?;
        column.push("exit to event", began.elapsed());
        cri.remove(&id).await?;
        if round == 0 {
            column.clear();
        }
    }
    Ok(())
}

/// The host's pid of a container's first process, which runtimes tell in their verbose answers.
async fn first_process(cri: &mut Cri, id: &str) -> anyhow::Result<Pid> {
    let request = ContainerStatusRequest {
        container_id: id.to_owned(),
        verbose: true,
    };
    let answer = cri.runtime.container_status(request).await?.into_inner();
    let info = answer.info.get("info").context("no verbose information")?;
    let info: Value = serde_json::from_str(info)?;
    let pid = info["pid"].as_i64().and_then(|pid| pid.try_into().ok());
    pid.and_then(Pid::from_raw)
        .with_context(|| format!("no pid in {info}"))
}

/// Waits for one event of a container, which must show what it tells.
async fn wait(
    events: &mut Streaming<ContainerEventResponse>,
    id: &str,
    kind: ContainerEventType,
) -> anyhow::Result<()> {
    let wanted = |event: &ContainerEventResponse| {
        event.container_id == id && event.container_event_type() == kind
    };
    let found = async {
        while let Some(event) = events.message().await? {
            if wanted(&event) {
                return Ok(event);
            }
        }
        bail!("the stream of events has ended")
    };
    let event = tokio::time::timeout(PATIENCE, found)
        .await
        .with_context(|| format!("no {} of container {id}", kind.as_str_name()))??;
    if event.pod_sandbox_status.is_none() || event.containers_statuses.iter().all(|c| c.id != id) {
        bail!("an event without a status: {event:?}");
    }
    Ok(())
}
