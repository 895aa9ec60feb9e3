//! Who is in a list, and when.

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use skiff_cri::v1::{
    ContainerStats, ContainerStatsFilter, ContainerStatsRequest, LinuxContainerResources,
    ListContainerStatsRequest, ListPodSandboxStatsRequest, PodSandboxStatsFilter,
    PodSandboxStatsRequest, StreamContainerStatsRequest, StreamPodSandboxMetricsRequest,
    StreamPodSandboxStatsRequest,
};
use tonic::Code;

use crate::lab::{Lab, Made, told};

async fn idle(lab: &mut Lab) -> anyhow::Result<Made> {
    lab.run("sleep 3600", LinuxContainerResources::default())
        .await
}

async fn list(
    lab: &mut Lab,
    filter: Option<ContainerStatsFilter>,
) -> anyhow::Result<Vec<ContainerStats>> {
    let request = ListContainerStatsRequest { filter };
    let answer = lab.cri.runtime.list_container_stats(request).await?;
    Ok(answer.into_inner().stats)
}

fn ids(stats: &[ContainerStats]) -> BTreeSet<&str> {
    let attributes = stats.iter().filter_map(|stats| stats.attributes.as_ref());
    attributes.map(|attributes| &*attributes.id).collect()
}

/// The first thing asked after the start.
pub(crate) async fn a_young_container_is_there(lab: &mut Lab) -> anyhow::Result<()> {
    let made = idle(lab).await?;
    let stats = list(lab, None).await?;
    let [stats] = &stats[..] else {
        bail!("{stats:?}");
    };
    ensure!(stats.cpu.is_some() && stats.memory.is_some(), "{stats:?}");
    let attributes = stats.attributes.as_ref().context("no attributes")?;
    ensure!(attributes.id == made.id && attributes.labels["name"] == "main");
    let name = &attributes.metadata.as_ref().context("no metadata")?.name;
    ensure!(name == "main", "{name}");
    let request = ListPodSandboxStatsRequest { filter: None };
    let pods = lab.cri.runtime.list_pod_sandbox_stats(request).await?;
    let pods = pods.into_inner().stats;
    let [pod] = &pods[..] else {
        bail!("{pods:?}");
    };
    let linux = pod.linux.as_ref().context("nothing of Linux")?;
    ensure!(
        linux.cpu.is_some() && linux.containers.len() == 1,
        "{linux:?}"
    );
    Ok(())
}

pub(crate) async fn filters(lab: &mut Lab) -> anyhow::Result<()> {
    let one = idle(lab).await?;
    let two = idle(lab).await?;
    let other = lab
        .add(
            two.config.clone(),
            two.pod.clone(),
            "other",
            "sleep 3600",
            LinuxContainerResources::default(),
        )
        .await?;
    let filter = |id: &str, pod: &str, name: Option<&str>| {
        let labels = name.map(|name| ("name".to_owned(), name.to_owned()));
        Some(ContainerStatsFilter {
            id: id.into(),
            pod_sandbox_id: pod.into(),
            label_selector: labels.into_iter().collect(),
        })
    };
    for (filter, expected) in [
        (None, vec![&one, &two, &other]),
        (filter("", "", None), vec![&one, &two, &other]),
        (filter(&one.id, "", None), vec![&one]),
        (filter(&one.id[..12], "", None), vec![&one]),
        (filter("", &two.pod, None), vec![&two, &other]),
        (filter("", "", Some("main")), vec![&one, &two]),
        (filter("", &two.pod, Some("main")), vec![&two]),
        (filter(&one.id, &two.pod, None), vec![]),
        (filter("", "", Some("none")), vec![]),
    ] {
        let stats = list(lab, filter.clone()).await?;
        let expected: BTreeSet<_> = expected.iter().map(|made| &*made.id).collect();
        ensure!(ids(&stats) == expected, "{filter:?}: {:?}", ids(&stats));
    }
    let request = ListPodSandboxStatsRequest {
        filter: Some(PodSandboxStatsFilter {
            id: one.pod.clone(),
            ..Default::default()
        }),
    };
    let pods = lab.cri.runtime.list_pod_sandbox_stats(request).await?;
    let pods = pods.into_inner().stats;
    let [pod] = &pods[..] else {
        bail!("{} pods", pods.len());
    };
    ensure!(pod.attributes.as_ref().is_some_and(|of| of.id == one.pod));
    Ok(())
}

pub(crate) async fn streams_have_what_lists_have(lab: &mut Lab) -> anyhow::Result<()> {
    let (one, two) = (idle(lab).await?, idle(lab).await?);
    let request = StreamContainerStatsRequest { filter: None };
    let stream = lab.cri.runtime.stream_container_stats(request).await?;
    let mut stream = stream.into_inner();
    let mut containers = Vec::new();
    while let Some(message) = stream.message().await? {
        ensure!(!message.container_stats.is_empty());
        containers.extend(message.container_stats);
    }
    let expected = BTreeSet::from([&*one.id, &*two.id]);
    ensure!(ids(&containers) == expected && containers.len() == 2);
    let request = StreamPodSandboxStatsRequest { filter: None };
    let stream = lab.cri.runtime.stream_pod_sandbox_stats(request).await?;
    let mut stream = stream.into_inner();
    let mut pods = 0;
    while let Some(message) = stream.message().await? {
        pods += message.pod_sandbox_stats.len();
    }
    let request = StreamPodSandboxMetricsRequest {};
    let stream = lab.cri.runtime.stream_pod_sandbox_metrics(request).await?;
    let mut stream = stream.into_inner();
    let mut metrics = 0;
    while let Some(message) = stream.message().await? {
        metrics += message.pod_sandbox_metrics.len();
    }
    ensure!(
        (pods, metrics) == (2, 2),
        "{pods} pods, metrics of {metrics}"
    );
    Ok(())
}

pub(crate) async fn the_ended_keep_what_they_wrote(lab: &mut Lab) -> anyhow::Result<()> {
    let script = "dd if=/dev/zero of=/x bs=1M count=3";
    let none = LinuxContainerResources::default();
    let made = lab.run(script, none).await?;
    lab.ended(&made.id).await?;
    lab.until(&made.id, |stats| {
        ensure!(stats.cpu.is_none() && stats.memory.is_none(), "{stats:?}");
        let layer = stats.writable_layer.as_ref().context("nothing of files")?;
        let used = told("bytes", layer.used_bytes)?;
        ensure!(used >= 3 << 20, "{used} bytes");
        Ok(())
    })
    .await?;
    lab.cri.stop_pod(&made.pod).await?;
    let stats = lab.pod_stats(&made.pod).await?;
    let linux = stats.linux.context("nothing of Linux")?;
    ensure!(
        linux.cpu.is_none() && linux.containers.len() == 1,
        "{linux:?}"
    );
    Ok(())
}

pub(crate) async fn the_gone_are_not_found(lab: &mut Lab) -> anyhow::Result<()> {
    let made = idle(lab).await?;
    lab.stats(&made.id).await?;
    lab.cri.discard_pod(&made.pod).await?;
    ensure!(list(lab, None).await?.is_empty());
    let container_id = made.id.clone();
    let request = ContainerStatsRequest { container_id };
    let answer = lab.cri.runtime.container_stats(request).await;
    ensure!(answer.is_err_and(|status| status.code() == Code::NotFound));
    let pod_sandbox_id = made.pod.clone();
    let request = PodSandboxStatsRequest { pod_sandbox_id };
    let answer = lab.cri.runtime.pod_sandbox_stats(request).await;
    ensure!(answer.is_err_and(|status| status.code() == Code::NotFound));
    Ok(())
}

pub(crate) async fn a_new_daemon_knows(lab: &mut Lab) -> anyhow::Result<()> {
    let made = idle(lab).await?;
    lab.crash().await?;
    let stats = list(lab, None).await?;
    let [stats] = &stats[..] else {
        bail!("{stats:?}");
    };
    let cpu = stats.cpu.as_ref().context("nothing of the processor")?;
    let used = told("usage", cpu.usage_core_nano_seconds)?;
    ensure!(used <= made.keyed("cpu.stat", "usage_usec")? * 1000);
    Ok(())
}
