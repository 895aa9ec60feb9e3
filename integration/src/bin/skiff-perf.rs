//! Measures what a kubelet waits for: the calls of a pod's life, one pod at a time with a pause
//! between pods, against one or several runtimes in turn.
//!
//! The pause matters: a runtime that migrates processes between cgroups looks fast in a tight loop
//! and costs milliseconds after the node has been quiet. Runtimes take turns pod by pod, so that
//! whatever else the machine does hits all of them.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::{Parser, ValueEnum};
use skiff_cri::v1::{ContainerConfig, PodSandboxConfig, SecurityProfile, security_profile};
use skiff_integration::client::{self, BUSYBOX, Cri};
use skiff_integration::figures::{Series, table};
use skiff_integration::process;

/// The calls that are measured, in their order; the first three make a pod's start.
const CALLS: [&str; 9] = [
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "ExecSync true",
    "ContainerStatus",
    "StopContainer timeout 0",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Network {
    /// The node's own network: no CNI plugin runs.
    Host,
    /// A network of the pod's own, made by the CNI plugins of the node.
    Cni,
}

/// Measures the calls of a pod's life on any CRI runtime.
#[derive(Debug, Parser)]
struct Options {
    /// A runtime: its name in the table, and its socket (repeatable).
    #[arg(long = "endpoint", value_name = "NAME=unix://PATH", required = true, value_parser = name_and_value)]
    endpoints: Vec<(String, String)>,
    /// How many pods each runtime is asked for.
    #[arg(long, default_value_t = 30)]
    pods: usize,
    /// Pause before each pod, in milliseconds.
    #[arg(long, default_value_t = 200)]
    idle_ms: u64,
    /// The container's image; pulled first.
    #[arg(long, default_value = BUSYBOX)]
    image: String,
    /// The pods' network.
    #[arg(long, value_enum, default_value = "host")]
    network: Network,
    /// Give the container CPU and memory limits.
    #[arg(long)]
    limits: bool,
    /// Confine the container with the runtime's default seccomp profile.
    #[arg(long)]
    seccomp: bool,
    /// The pods' cgroup.
    #[arg(long, default_value = "")]
    cgroup_parent: String,
    /// After the calls, keep this many pods and read the memory of the processes named by --memory.
    #[arg(long, default_value_t = 0)]
    keep: usize,
    /// Command names of a runtime's daemon and of its helper per pod (repeatable).
    #[arg(long = "memory", value_name = "NAME=DAEMON,HELPER", value_parser = name_and_value)]
    memory: Vec<(String, String)>,
    /// Write every measurement here, in microseconds.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// One runtime and what it took.
struct Subject {
    name: String,
    cri: Cri,
    calls: BTreeMap<&'static str, Series>,
    start: Series,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut subjects = Vec::new();
    for (name, endpoint) in &options.endpoints {
        let mut cri = Cri::connect(endpoint)
            .await
            .with_context(|| format!("connect to {name} at {endpoint}"))?;
        cri.pull(&options.image)
            .await
            .with_context(|| format!("{name}: pull {}", options.image))?;
        let (calls, start) = (BTreeMap::new(), Series::default());
        subjects.push(Subject {
            name: name.clone(),
            cri,
            calls,
            start,
        });
    }
    for round in 0..=options.pods {
        for subject in &mut subjects {
            tokio::time::sleep(Duration::from_millis(options.idle_ms)).await;
            // the first pod warms caches and is not counted
            subject
                .life(&options, round)
                .await
                .with_context(|| format!("{}: pod {round}", subject.name))?;
            if round == 0 {
                subject.calls.clear();
                subject.start = Series::default();
            }
        }
    }
    let mut out = std::io::stdout();
    write!(out, "{}", figures(&subjects))?;
    if options.keep > 0 {
        for subject in &mut subjects {
            let line = subject
                .memory(&options)
                .await
                .with_context(|| format!("{}: memory", subject.name))?;
            writeln!(out, "{line}")?;
        }
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec(&raw(&subjects))?)
            .with_context(|| format!("write {path:?}"))?;
    }
    Ok(())
}

impl Subject {
    async fn timed<T>(
        &mut self,
        call: &'static str,
        work: impl Future<Output = Result<T, tonic::Status>>,
    ) -> anyhow::Result<(T, Duration)> {
        let began = Instant::now();
        let value = work.await.with_context(|| call)?;
        let took = began.elapsed();
        self.calls.entry(call).or_default().push(took);
        Ok((value, took))
    }

    /// One pod with one container, from nothing to nothing.
    async fn life(&mut self, options: &Options, round: usize) -> anyhow::Result<()> {
        let (pod, container) = requests(options, &format!("perf-{round}"))?;
        let mut cri = self.cri.clone();
        let [
            run,
            create,
            start,
            exec,
            status,
            stop,
            remove,
            stop_pod,
            remove_pod,
        ] = CALLS;
        let (pod_id, sandbox) = self.timed(run, cri.run_pod(&pod)).await?;
        let (id, created) = self
            .timed(create, cri.create(&pod_id, &container, &pod))
            .await?;
        let (_, started) = self.timed(start, cri.start(&id)).await?;
        self.start.push(sandbox + created + started);
        let (answer, _) = self.timed(exec, cri.exec(&id, &["true"], 10)).await?;
        if answer.exit_code != 0 {
            bail!("exec true: exit code {}", answer.exit_code);
        }
        self.timed(status, cri.status(&id)).await?;
        self.timed(stop, cri.stop(&id, 0)).await?;
        self.timed(remove, cri.remove(&id)).await?;
        self.timed(stop_pod, cri.stop_pod(&pod_id)).await?;
        self.timed(remove_pod, cri.remove_pod(&pod_id)).await?;
        Ok(())
    }

    /// Keeps pods standing and reads what daemon and helpers weigh.
    async fn memory(&mut self, options: &Options) -> anyhow::Result<String> {
        let (_, names) = options
            .memory
            .iter()
            .find(|(name, _)| *name == self.name)
            .ok_or_else(|| anyhow!("--keep needs --memory {}=DAEMON,HELPER", self.name))?;
        let (daemon, helper) = names
            .split_once(',')
            .ok_or_else(|| anyhow!("--memory: expected DAEMON,HELPER"))?;
        let resident = || {
            process::named(daemon)
                .into_iter()
                .filter_map(process::resident)
                .sum::<u64>()
        };
        let before = resident();
        let mut pods = Vec::new();
        for number in 0..options.keep {
            let (pod, container) = requests(options, &format!("memory-{number}"))?;
            let id = self.cri.run_pod(&pod).await?;
            let container = self.cri.create(&id, &container, &pod).await?;
            self.cri.start(&container).await?;
            pods.push(id);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut unique: Vec<u64> = process::named(helper)
            .into_iter()
            .filter_map(process::unique)
            .collect();
        unique.sort_unstable();
        let line = format!(
            "{}: {daemon} {:.1} MB resident, {:.1} MB with {} pods; {} {helper}, unique memory each: median {:.2} MB, most {:.2} MB",
            self.name,
            megabytes(before),
            megabytes(resident()),
            options.keep,
            unique.len(),
            megabytes(unique.get(unique.len() / 2).copied().unwrap_or(0)),
            megabytes(unique.last().copied().unwrap_or(0)),
        );
        for id in pods {
            self.cri.discard_pod(&id).await?;
        }
        Ok(line)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure with one decimal")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn requests(options: &Options, name: &str) -> anyhow::Result<(PodSandboxConfig, ContainerConfig)> {
    let mut pod = client::pod(name);
    if matches!(options.network, Network::Host) {
        pod = client::on_host_network(pod);
    }
    pod.linux
        .get_or_insert_default()
        .cgroup_parent
        .clone_from(&options.cgroup_parent);
    let mut container = client::container("main", &["sleep", "3600"], &pod);
    container.image = Some(client::image_spec(&options.image));
    let linux = container
        .linux
        .as_mut()
        .ok_or_else(|| anyhow!("a container without linux settings"))?;
    if options.limits {
        linux.resources = Some(client::limits());
    }
    if options.seccomp {
        let profile = security_profile::ProfileType::RuntimeDefault.into();
        linux.security_context.get_or_insert_default().seccomp = Some(SecurityProfile {
            profile_type: profile,
            localhost_ref: String::new(),
        });
    }
    Ok((pod, container))
}

/// Every row of the table: each call, and the sums that have a meaning of their own.
fn figures(subjects: &[Subject]) -> String {
    let names: Vec<String> = subjects
        .iter()
        .map(|subject| subject.name.clone())
        .collect();
    let of = |call: &str| -> Vec<Series> {
        subjects
            .iter()
            .map(|subject| subject.calls.get(call).cloned().unwrap_or_default())
            .collect()
    };
    let mut rows: Vec<(String, Vec<Series>)> = CALLS
        .iter()
        .map(|call| ((*call).to_owned(), of(call)))
        .collect();
    let starts = subjects
        .iter()
        .map(|subject| subject.start.clone())
        .collect();
    rows.insert(3, ("pod start: the three above".to_owned(), starts));
    let (stops, removes) = (of(CALLS[5]), of(CALLS[6]));
    let sums = stops.iter().zip(&removes).map(|(stop, remove)| {
        let mut sum = Series::default();
        stop.values()
            .iter()
            .zip(remove.values())
            .for_each(|(stop, remove)| sum.push(*stop + *remove));
        sum
    });
    rows.insert(
        8,
        ("container end: the two above".to_owned(), sums.collect()),
    );
    table(&names, &rows)
}

fn raw(subjects: &[Subject]) -> serde_json::Value {
    let micros = |series: &Series| {
        series
            .values()
            .iter()
            .map(Duration::as_micros)
            .collect::<Vec<_>>()
    };
    subjects
        .iter()
        .map(|subject| {
            let mut calls: BTreeMap<&str, Vec<u128>> = subject
                .calls
                .iter()
                .map(|(call, series)| (*call, micros(series)))
                .collect();
            calls.insert("pod start", micros(&subject.start));
            (subject.name.clone(), serde_json::json!(calls))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}
