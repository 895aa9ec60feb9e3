//! What the kubelet tells of the use of its pods, and whom it has it from.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::http;
use crate::kubelet::READ_ONLY_PORT;
use crate::lab::{LIMIT, Lab};
use crate::load;
use crate::manifest::{container, pod};
use crate::node::{LOOK, Node};

const MIB: f64 = 1024.0 * 1024.0;
/// What a shell and what it starts may hold.
const HELD: RangeInclusive<f64> = 65536.0..=64.0 * MIB;

/// Uses the processor, and the network: a port where nobody listens answers, too.
const BUSY: &str = "while true; do i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; \
    wget -q -T 1 -O /dev/null http://10.88.0.1:9/; sleep 0.2; done";

impl Node {
    /// The kubelet has this feature gate.
    fn has(&self, gate: &str) -> bool {
        self.gates.iter().any(|one| one == gate)
    }
}

/// Asks the kubelet until its answer passes: its figures are some seconds old.
async fn told(path: &str, test: impl Fn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = http::get(READ_ONLY_PORT, path).await;
        let Err(error) = answer.and_then(|answer| test(&answer)) else {
            return Ok(());
        };
        if Instant::now() > deadline {
            return Err(error.context(format!("{path}, after {LIMIT:?}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn within(what: &str, value: Option<f64>, range: RangeInclusive<f64>) -> anyhow::Result<()> {
    ensure!(
        value.is_some_and(|value| range.contains(&value)),
        "{what} is {value:?}, not in {range:?}"
    );
    Ok(())
}

/// A pod's time, memory and network are in the kubelet's summary and are plausible. Where the
/// kubelet takes figures from the runtime alone, the metrics of cAdvisor are ours, too.
pub(crate) async fn of_a_pod(lab: Arc<Lab>) -> anyhow::Result<()> {
    let began = Instant::now();
    let main = container("main", BUSY, json!({}));
    let (given, running) = lab.run(&pod("figures", &[main], json!({}))).await?;
    let id = running.container("main").context("no container")?.id();
    let uid = running.uid();
    let sandbox = lab.sandboxes().await?.into_iter().find(|one| {
        let metadata = one.metadata.as_ref();
        metadata.is_some_and(|metadata| metadata.uid == uid)
    });
    let sandbox = sandbox.context("no sandbox")?.id;
    let runtime_alone = lab.has("PodAndContainerStatsFromCRI");
    let summary = |text: &str| summary(text, &given.name, began, runtime_alone);
    told("/stats/summary", summary).await?;
    if runtime_alone {
        let metrics = |text: &str| metrics(text, &given.name, id, &sandbox, began);
        told("/metrics/cadvisor", metrics).await?;
    }
    given.remove().await
}

fn summary(text: &str, name: &str, began: Instant, networks: bool) -> anyhow::Result<()> {
    let all: Value = serde_json::from_str(text)?;
    let mut pods = all["pods"].as_array().into_iter().flatten();
    let pod = pods.find(|pod| pod["podRef"]["name"] == name);
    let pod = pod.context("the pod is not there")?;
    let elapsed = began.elapsed().as_nanos() as f64;
    for (what, user) in [("pod", pod), ("container", &pod["containers"][0])] {
        let figure = |group: &str, key: &str| user[group][key].as_f64();
        let used = figure("cpu", "usageCoreNanoSeconds");
        within(&format!("time of the {what}"), used, 1e6..=elapsed)?;
        let rate = figure("cpu", "usageNanoCores");
        within(&format!("nano cores of the {what}"), rate, 1e4..=2e9)?;
        let held = figure("memory", "workingSetBytes");
        within(&format!("working set of the {what}"), held, HELD)?;
    }
    if networks {
        for key in ["rxBytes", "txBytes"] {
            within(key, pod["network"][key].as_f64(), 100.0..=MIB)?;
        }
    }
    Ok(())
}

fn metrics(text: &str, pod: &str, id: &str, sandbox: &str, began: Instant) -> anyhow::Result<()> {
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = "container_cpu_usage_seconds_total";
    let memory = "container_memory_working_set_bytes";
    let received = "container_network_receive_bytes_total";
    let sent = "container_network_transmit_bytes_total";
    // seconds are whole ones
    for (name, container, id, range) in [
        (cpu, "main", id, 1.0..=elapsed),
        (cpu, "", sandbox, 1.0..=elapsed),
        (memory, "main", id, HELD),
        (memory, "", sandbox, HELD),
        ("container_processes", "main", id, 1.0..=10.0),
        (received, "POD", sandbox, 100.0..=MIB),
        (sent, "POD", sandbox, 100.0..=MIB),
    ] {
        let labels = [
            ("namespace", "default"),
            ("pod", pod),
            ("container", container),
            ("id", id),
        ];
        let series = text.lines().find(|line| is_series(line, name, &labels));
        let value = series.and_then(value);
        within(&format!("{name} of {container:?}, id {id}"), value, range)?;
    }
    Ok(())
}

/// A line of Prometheus' text is about this metric with these labels, and perhaps more.
fn is_series(line: &str, name: &str, labels: &[(&str, &str)]) -> bool {
    let Some((given, rest)) = line.split_once('{') else {
        return false;
    };
    let Some((given_labels, _)) = rest.rsplit_once('}') else {
        return false;
    };
    let has = |(key, value): &(&str, &str)| {
        let wanted = format!("{key}=\"{value}\"");
        given_labels.split(',').any(|label| label == wanted)
    };
    given == name && labels.iter().all(has)
}

/// What follows the labels, before the time.
fn value(line: &str) -> Option<f64> {
    let (_, rest) = line.rsplit_once("} ")?;
    rest.split(' ').next()?.parse().ok()
}

/// With evented PLEG the kubelet has subscribed to the runtime's events, and goes on listening.
pub(crate) async fn who_tells_of_changes(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.midway().await?;
    let text = http::get(READ_ONLY_PORT, "/metrics").await?;
    let connected = load::sum(&text, "kubelet_evented_pleg_connection_success_count") > 0.0;
    let evented = lab.has("EventedPLEG");
    ensure!(
        connected == evented,
        "subscribed: {connected}, with the feature: {evented}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_has_the_name_and_all_labels() {
        let line = r#"a_total{container="main",id="1",pod="x"} 7.5e+01 1790000000000"#;
        assert!(is_series(line, "a_total", &[("pod", "x"), ("id", "1")]));
        assert!(!is_series(line, "a", &[("pod", "x")]));
        assert!(!is_series(line, "a_total", &[("container", "")]));
        assert_eq!(value(line), Some(75.0));
    }
}
