//! As many pods as a node may have, at rest or probed every second: what the runtime costs then.
//!
//! The runtime runs already, in a cgroup of its own, so that a peer can be measured the same way.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use skiff_integration::client::{BUSYBOX, Cri};

use crate::http;
use crate::kubelet::{self, Kubelet, MANIFESTS, READ_ONLY_PORT};
use crate::manifest::{container, pod};
use crate::node::{Front, Options};
use crate::status::Pod;

/// The cgroup of the runtime and all its helpers.
const CGROUP: &str = "/sys/fs/cgroup/runtime";
/// Until all pods run, on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);
/// From then until kubelet and runtime are at rest.
const SETTLE: Duration = Duration::from_secs(30);
/// How long is measured.
const WINDOW: Duration = Duration::from_secs(60);

/// Starts `count` pods, and prints what was measured, a name and a number each line.
pub(crate) async fn run(options: &Options, count: usize) -> anyhow::Result<()> {
    let mut cri = Cri::connect(&options.endpoint).await?;
    cri.pull(BUSYBOX).await.context("pull the image")?;
    let config = kubelet::config(&options.endpoint, &json!({"maxPods": count + 10}));
    let log = options.logs.join("kubelet.log");
    let _kubelet = Kubelet::start(&options.kubelet, Front::Files, &log, &config).await?;
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
    let (before, relists, probes) = (cpu()?, relists().await?, probed().await?);
    let window = Instant::now();
    tokio::time::sleep(WINDOW).await;
    let seconds = window.elapsed().as_secs_f64();
    let after = self::relists().await?;
    tell("cpu_percent", (cpu()? - before) / seconds * 100.0)?;
    tell(
        "relist_ms",
        (after.0 - relists.0) / (after.1 - relists.1) * 1000.0,
    )?;
    tell("memory_mb", memory()?)?;
    tell("probes_per_second", (probed().await? - probes) / seconds)
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

async fn ready() -> anyhow::Result<usize> {
    let list: Value = serde_json::from_str(&http::get(READ_ONLY_PORT, "/pods").await?)?;
    let pods = list["items"].as_array().cloned().unwrap_or_default();
    Ok(pods
        .into_iter()
        .map(Pod)
        .filter(|pod| pod.is("Ready"))
        .count())
}

/// Seconds of processor time that the runtime has used.
fn cpu() -> anyhow::Result<f64> {
    let path = Path::new(CGROUP).join("cpu.stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
    let usage = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    let usage: f64 = usage.context("no usage")?.parse()?;
    Ok(usage / 1e6)
}

/// Mebibytes that the runtime's processes hold, what they share counted once.
fn memory() -> anyhow::Result<f64> {
    let mut kib = 0.0;
    let path = Path::new(CGROUP).join("cgroup.procs");
    for pid in fs::read_to_string(&path)
        .with_context(|| format!("read {path:?}"))?
        .lines()
    {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let share = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let share = share.and_then(|line| line.trim().strip_suffix(" kB"));
        kib += share.map_or(Ok(0.0), |share| share.trim().parse::<f64>())?;
    }
    Ok(kib / 1024.0)
}

/// Seconds spent in relists, and how many there were.
async fn relists() -> anyhow::Result<(f64, f64)> {
    let text = http::get(READ_ONLY_PORT, "/metrics").await?;
    let of = |name: &str| {
        sum(
            &text,
            &format!("kubelet_pleg_relist_duration_seconds_{name}"),
        )
    };
    Ok((of("sum"), of("count")))
}

/// How many probes have been answered.
async fn probed() -> anyhow::Result<f64> {
    Ok(sum(
        &http::get(READ_ONLY_PORT, "/metrics/probes").await?,
        "prober_probe_total",
    ))
}

/// The sum of all series of a metric.
fn sum(text: &str, name: &str) -> f64 {
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
    }
}
