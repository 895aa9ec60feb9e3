//! What a kubelet makes /metrics/cadvisor of.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};
use skiff_cri::v1::{
    LinuxContainerResources, ListMetricDescriptorsRequest, ListPodSandboxMetricsRequest, Metric,
    MetricDescriptor, PodSandboxMetrics,
};

use crate::lab::{Lab, MIB, close};

/// Names that have no value on every node: without huge pages, traffic with disks, or pressure.
const SOME_NODES: [&str; 3] = ["hugetlb", "pressure", "blkio"];

async fn descriptors(lab: &mut Lab) -> anyhow::Result<Vec<MetricDescriptor>> {
    let request = ListMetricDescriptorsRequest {};
    let answer = lab.cri.runtime.list_metric_descriptors(request).await?;
    Ok(answer.into_inner().descriptors)
}

async fn metrics(lab: &mut Lab) -> anyhow::Result<Vec<PodSandboxMetrics>> {
    let request = ListPodSandboxMetricsRequest {};
    let answer = lab.cri.runtime.list_pod_sandbox_metrics(request).await?;
    Ok(answer.into_inner().pod_metrics)
}

fn all(pods: &[PodSandboxMetrics]) -> impl Iterator<Item = &Metric> {
    pods.iter().flat_map(|pod| {
        let containers = pod.container_metrics.iter();
        pod.metrics
            .iter()
            .chain(containers.flat_map(|container| &container.metrics))
    })
}

pub(crate) async fn names_and_labels(lab: &mut Lab) -> anyhow::Result<()> {
    let none = LinuxContainerResources::default;
    let pod = lab.pod();
    let limited = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        memory_limit_in_bytes: (64 * MIB).cast_signed(),
        ..none()
    };
    let script = "dd if=/dev/zero of=/x bs=1M count=1; sync; sleep 3600";
    let made = lab.run_in(pod, script, limited).await?;
    lab.run("sleep 3600", none()).await?;
    lab.until(&made.id, |stats| {
        stats.writable_layer.clone().context("no layer")
    })
    .await?;
    let described = descriptors(lab).await?;
    ensure!(described == descriptors(lab).await?, "they change");
    let keys: BTreeMap<_, _> = described
        .iter()
        .map(|descriptor| (&descriptor.name, &descriptor.label_keys))
        .collect();
    ensure!(
        keys.len() == described.len() && keys.len() >= 50,
        "{}",
        keys.len()
    );
    for descriptor in &described {
        ensure!(!descriptor.help.is_empty(), "{}", descriptor.name);
        let first = &descriptor.label_keys[..5];
        ensure!(
            first == ["id", "image", "namespace", "pod", "container"],
            "{first:?}"
        );
    }
    let pods = metrics(lab).await?;
    let mut series = BTreeSet::new();
    for metric in all(&pods) {
        let (name, values) = (&metric.name, &metric.label_values);
        let keys = keys
            .get(name)
            .with_context(|| format!("{name} has no descriptor"))?;
        ensure!(keys.len() == values.len(), "{name}: {keys:?} {values:?}");
        ensure!(metric.timestamp > 0 && metric.value.is_some(), "{metric:?}");
        ensure!(series.insert((name, values)), "twice: {name} {values:?}");
    }
    let told: BTreeSet<_> = all(&pods).map(|metric| &metric.name).collect();
    let missing: Vec<_> = keys
        .keys()
        .filter(|name| !told.contains(*name))
        .filter(|name| {
            let disk = name.contains("fs_reads") || name.contains("fs_writes");
            !disk && !SOME_NODES.iter().any(|part| name.contains(part))
        })
        .collect();
    ensure!(missing.is_empty(), "{missing:?}");
    Ok(())
}

pub(crate) async fn values(lab: &mut Lab) -> anyhow::Result<()> {
    let limited = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 20_000,
        cpu_shares: 512,
        memory_limit_in_bytes: (96 * MIB).cast_signed(),
        ..Default::default()
    };
    let script =
        "head -c 20971520 /dev/zero > /dev/shm/x; exec 7</dev/null 8</dev/null; sleep 3600";
    let made = lab.run(script, limited).await?;
    lab.until(&made.id, |stats| {
        let memory = stats.memory.as_ref().context("nothing of memory")?;
        let usage = memory.usage_bytes.map_or(0, |usage| usage.value);
        ensure!(usage >= 20 * MIB, "{usage}");
        Ok(())
    })
    .await?;
    // Who has written it all may not have ended yet.
    lab.until_pod(&made.pod, |stats| {
        let linux = stats.linux.as_ref().context("nothing of Linux")?;
        let process = linux.process.as_ref().context("nothing of processes")?;
        let count = process.process_count.map(|count| count.value);
        ensure!(count == Some(1), "{count:?} processes");
        Ok(())
    })
    .await?;
    let pods = metrics(lab).await?;
    let [pod] = &pods[..] else {
        bail!("{} pods", pods.len());
    };
    ensure!(pod.pod_sandbox_id == made.pod);
    let [container] = &pod.container_metrics[..] else {
        bail!("{} containers", pod.container_metrics.len());
    };
    let value = |name: &str| {
        let metric = container.metrics.iter().find(|metric| metric.name == name);
        let metric = metric.with_context(|| format!("no {name}"))?;
        let [id, image, namespace, pod, name, ..] = &metric.label_values[..] else {
            bail!("{metric:?}");
        };
        ensure!(
            id == &made.id && name == "main" && namespace == "default",
            "{metric:?}"
        );
        ensure!(
            image.contains("busybox") && pod.starts_with("stats-"),
            "{metric:?}"
        );
        Ok(metric.value.map_or(0, |value| value.value))
    };
    for (name, expected) in [
        ("container_spec_cpu_period", 100_000),
        ("container_spec_cpu_quota", 20_000),
        ("container_spec_cpu_shares", 512),
        ("container_spec_memory_limit_bytes", 96 * MIB),
        ("container_processes", 1),
        ("container_threads", 1),
        ("container_sockets", 0),
        ("container_oom_events_total", 0),
    ] {
        let is = value(name)?;
        ensure!(is == expected, "{name} is {is}, not {expected}");
    }
    let files = value("container_file_descriptors")?;
    ensure!((5..=8).contains(&files), "{files} open files");
    let cache = value("container_memory_cache")?;
    close("cache", cache, made.keyed("memory.stat", "file")?, 4 * MIB)?;
    ensure!(value("container_memory_max_usage_bytes")? >= 20 * MIB);
    ensure!(value("container_start_time_seconds")? <= value("container_last_seen")?);
    let whole = pod
        .metrics
        .iter()
        .find(|m| m.name == "container_memory_usage_bytes");
    let whole = whole.context("nothing of the pod's memory")?;
    ensure!(whole.label_values[0] == made.pod && whole.label_values[4].is_empty());
    Ok(())
}

pub(crate) async fn only_pods_that_run(lab: &mut Lab) -> anyhow::Result<()> {
    let none = LinuxContainerResources::default();
    let made = lab.run("exit 0", none).await?;
    lab.ended(&made.id).await?;
    let pods = metrics(lab).await?;
    ensure!(
        pods.len() == 1 && pods[0].container_metrics.is_empty(),
        "{pods:?}"
    );
    lab.cri.stop_pod(&made.pod).await?;
    let pods = metrics(lab).await?;
    ensure!(pods.is_empty(), "{pods:?}");
    Ok(())
}
