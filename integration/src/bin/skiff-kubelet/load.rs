//! As many pods as a node may have, at rest or probed every second: what the runtime costs then.
//!
//! The runtime runs already, in a cgroup of its own, so that a peer can be measured the same way.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use skiff_integration::cgroup::processor_time;
use skiff_integration::client::{BUSYBOX, Cri};
use skiff_integration::process;

use crate::http;
use crate::kubelet::{self, Kubelet, MANIFESTS, READ_ONLY_PORT};
use crate::manifest::{container, pod};
use crate::node::{Front, Options};
use crate::status::Pod;

/// The cgroup of the runtime and all its helpers.
const CGROUP: &str = "/sys/fs/cgroup/runtime";
/// Until all pods run, and how long the kubelet may take for an answer, on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);
/// From then until kubelet and runtime are at rest.
const SETTLE: Duration = Duration::from_secs(20);
/// How long pods at rest are measured: what a kubelet does once in a minute is in it.
const REST: Duration = Duration::from_secs(60);
/// How long probes are.
const PROBING: Duration = Duration::from_secs(30);

/// Starts `count` pods, and prints what was measured, a name and a number each line.
pub(crate) async fn run(options: &Options, count: usize) -> anyhow::Result<()> {
    let mut cri = Cri::connect(&options.endpoint).await?;
    cri.pull(BUSYBOX).await.context("pull the image")?;
    // as often as a kubelet does things by itself, since that is what is measured
    let usual = json!({"maxPods": count + 10, "syncFrequency": "1m", "fileCheckFrequency": "20s"});
    let config = kubelet::config(&options.endpoint, &usual);
    let log = options.logs.join("kubelet.log");
    let mut kubelet = Kubelet::start(&options.kubelet, Front::Files, &log, &config).await?;
    let began = Instant::now();
    for number in 0..count {
        let name = format!("load-{number}");
        let manifest = pod(&name, &[one(options.probes)], json!({}));
        fs::write(format!("{MANIFESTS}/{name}.json"), manifest.to_string())?;
    }
    while ready().await? < count {
        ensure!(
            began.elapsed() < LIMIT,
            "{} of {count} pods are ready",
            ready().await?
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    tell("seconds", began.elapsed().as_secs_f64())?;
    tokio::time::sleep(SETTLE).await;
    let before = Figures::now().await?;
    tokio::time::sleep(if options.probes { PROBING } else { REST }).await;
    let after = Figures::now().await?;
    kubelet.lives()?;
    after.since(&before)?;
    tell("memory_mb", memory()?)
}

/// What only grows, at one moment.
struct Figures {
    at: Instant,
    /// Seconds of processor time that the runtime has used.
    cpu: f64,
    /// Seconds spent in relists.
    relisting: f64,
    relists: f64,
    /// How many probes have been answered.
    probes: f64,
}

impl Figures {
    async fn now() -> anyhow::Result<Self> {
        let probes = patiently("/metrics/probes").await?;
        let kubelet = patiently("/metrics").await?;
        let relist = "kubelet_pleg_relist_duration_seconds";
        Ok(Self {
            at: Instant::now(),
            cpu: processor_time(Path::new(CGROUP))?.as_secs_f64(),
            relisting: sum(&kubelet, &format!("{relist}_sum")),
            relists: sum(&kubelet, &format!("{relist}_count")),
            probes: sum(&probes, "prober_probe_total"),
        })
    }

    /// Tells what has happened since.
    fn since(&self, before: &Self) -> anyhow::Result<()> {
        let seconds = (self.at - before.at).as_secs_f64();
        let (cpu, probes) = (self.cpu - before.cpu, self.probes - before.probes);
        tell("cpu_percent", cpu / seconds * 100.0)?;
        let relisting = self.relisting - before.relisting;
        tell(
            "relist_ms",
            relisting / (self.relists - before.relists) * 1000.0,
        )?;
        tell("probes_per_second", probes / seconds)?;
        if probes > 0.0 {
            tell("cpu_ms_per_probe", cpu / probes * 1000.0)?;
        }
        Ok(())
    }
}

/// What the kubelet answers, when it comes to it.
async fn patiently(path: &str) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        match http::get(READ_ONLY_PORT, path).await {
            Err(error) if began.elapsed() > LIMIT => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            answer => return answer,
        }
    }
}

/// A container that does nothing, and is asked every second whether it does.
fn one(probed: bool) -> Value {
    let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 60});
    let more = match probed {
        true => json!({"command": ["sleep", "100000"], "livenessProbe": probe, "resources": null}),
        false => json!({"command": ["sleep", "100000"], "resources": null}),
    };
    container("main", "", more)
}

fn tell(name: &str, value: f64) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{name} {value:.2}")?;
    Ok(())
}

/// How many pods are ready.
async fn ready() -> anyhow::Result<usize> {
    let list: Value = serde_json::from_str(&patiently("/pods").await?)?;
    let mut pods = list["items"].as_array().cloned().unwrap_or_default();
    pods.retain(|pod| Pod(pod.clone()).is("Ready"));
    Ok(pods.len())
}

/// Mebibytes that the runtime's processes hold, what they share counted once.
fn memory() -> anyhow::Result<f64> {
    let path = Path::new(CGROUP).join("cgroup.procs");
    let pids = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
    let mut bytes = 0;
    for pid in pids.lines() {
        // one that has ended meanwhile holds nothing
        bytes += process::proportional(pid.parse()?).unwrap_or_default();
    }
    Ok(bytes as f64 / f64::from(1 << 20))
}

/// The sum of all series of a metric, or of the one that is named with all its labels.
pub(crate) fn sum(text: &str, name: &str) -> f64 {
    let of_it = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '{']))
    };
    let values = text.lines().filter(of_it);
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_series_of_a_metric_count_and_no_other() {
        let text = "# HELP a b\na{x=\"1\"} 2\na 3.5\na_total 7\n";
        assert_eq!(sum(text, "a"), 5.5);
        assert_eq!(sum(text, "b"), 0.0);
        assert_eq!(sum(text, "a{x=\"1\"}"), 2.0);
    }
}
