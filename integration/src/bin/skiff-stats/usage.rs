//! What containers use, beside what they do and what the kernel's files say.

use std::time::Duration;

use anyhow::{Context, ensure};
use skiff_cri::v1::{ContainerStats, LinuxContainerResources, PsiStats};

use crate::lab::{Lab, MIB, Made, close, told};

/// Holds 48 MiB, as a file in memory.
const HOLD: &str = "head -c 50331648 /dev/zero > /dev/shm/x; sleep 3600";
/// Figures that are read at different times may differ by so much.
const MARGIN: u64 = 4 * MIB;

fn memory(limit: u64, swap: u64) -> LinuxContainerResources {
    LinuxContainerResources {
        memory_limit_in_bytes: limit.cast_signed(),
        unified: [("memory.swap.max".to_owned(), swap.to_string())].into(),
        ..Default::default()
    }
}

fn none() -> LinuxContainerResources {
    LinuxContainerResources::default()
}

fn nano_cores(stats: &ContainerStats) -> anyhow::Result<u64> {
    let cpu = stats.cpu.as_ref().context("nothing of the processor")?;
    told("nano cores", cpu.usage_nano_cores)
}

/// A fifth of a processor is what it may burn.
pub(crate) async fn a_burnt_processor(lab: &mut Lab) -> anyhow::Result<()> {
    let fifth = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 20_000,
        ..Default::default()
    };
    let made = lab.run("while :; do :; done", fifth).await?;
    let check =
        |stats: &ContainerStats| close("nano cores", nano_cores(stats)?, 200_000_000, 40_000_000);
    lab.until(&made.id, check).await?;
    let before = made.keyed("cpu.stat", "usage_usec")? * 1000;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let at_least = |stats: &ContainerStats| {
        let cpu = stats.cpu.as_ref().context("nothing of the processor")?;
        let used = told("usage", cpu.usage_core_nano_seconds)?;
        ensure!(used >= before, "{used} is told, {before} it was already");
        Ok((used, cpu.timestamp))
    };
    let (used, at) = lab.until(&made.id, at_least).await?;
    let now = made.keyed("cpu.stat", "usage_usec")? * 1000;
    ensure!(used <= now, "{used} is told, {now} it is");
    ensure!(at > 0);
    let pod = lab
        .pod_stats(&made.pod)
        .await?
        .linux
        .context("nothing of Linux")?;
    let cpu = pod.cpu.context("nothing of the pod's processor")?;
    let cores = told("the pod's nano cores", cpu.usage_nano_cores)?;
    close("the pod's nano cores", cores, 200_000_000, 60_000_000)
}

pub(crate) async fn a_processor_left_alone(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab.run("sleep 3600", none()).await?;
    let idle = |stats: &ContainerStats| close("nano cores", nano_cores(stats)?, 0, 1_000_000);
    lab.until(&made.id, idle).await
}

pub(crate) async fn held_memory(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab.run(HOLD, memory(96 * MIB, 0)).await?;
    let check = |stats: &ContainerStats| {
        let memory = stats.memory.as_ref().context("nothing of memory")?;
        let usage = told("usage", memory.usage_bytes)?;
        ensure!(usage >= 48 * MIB, "{usage} bytes are told");
        close("usage", usage, made.number("memory.current")?, MARGIN)?;
        let working_set = told("working set", memory.working_set_bytes)?;
        let inactive = made.keyed("memory.stat", "inactive_file")?;
        close("working set", working_set, usage - inactive, MARGIN)?;
        let available = told("available", memory.available_bytes)?;
        ensure!(
            available + working_set == 96 * MIB,
            "{available} + {working_set}"
        );
        let rss = told("rss", memory.rss_bytes)?;
        close("rss", rss, made.keyed("memory.stat", "anon")?, MARGIN)?;
        let faults = told("faults", memory.page_faults)?;
        ensure!(faults > 0 && faults <= made.keyed("memory.stat", "pgfault")?);
        told("major faults", memory.major_page_faults).map(drop)
    };
    lab.until(&made.id, check).await?;
    let pod = lab
        .pod_stats(&made.pod)
        .await?
        .linux
        .context("nothing of Linux")?;
    let memory = pod.memory.context("nothing of the pod's memory")?;
    let usage = told("the pod's usage", memory.usage_bytes)?;
    close(
        "the pod's",
        usage,
        made.parent()?.number("memory.current")?,
        MARGIN,
    )
}

pub(crate) async fn swap(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab.run(HOLD, memory(32 * MIB, 40 * MIB)).await?;
    let check = |stats: &ContainerStats| {
        let swap = stats.swap.as_ref().context("nothing of swap")?;
        let used = told("swap", swap.swap_usage_bytes)?;
        ensure!(used >= 12 * MIB, "{used} bytes of swap are told");
        close("swap", used, made.number("memory.swap.current")?, MARGIN)?;
        let left = told("swap left", swap.swap_available_bytes)?;
        ensure!(used + left == 40 * MIB, "{used} + {left}");
        Ok(())
    };
    lab.until(&made.id, check).await
}

/// What is not limited has no number for what is left.
pub(crate) async fn no_limits(lab: &mut Lab) -> anyhow::Result<()> {
    let unlimited = LinuxContainerResources {
        unified: [("memory.swap.max".to_owned(), "max".to_owned())].into(),
        ..Default::default()
    };
    let made = lab.run("sleep 3600", unlimited).await?;
    let stats = lab.stats(&made.id).await?;
    let memory = stats.memory.context("nothing of memory")?;
    ensure!(memory.available_bytes.is_none(), "{memory:?}");
    let swap = stats.swap.context("nothing of swap")?;
    ensure!(swap.swap_available_bytes.is_none(), "{swap:?}");
    Ok(())
}

pub(crate) async fn written_files(lab: &mut Lab) -> anyhow::Result<()> {
    let script =
        "mkdir /d; for i in 1 2 3 4 5; do dd if=/dev/zero of=/d/$i bs=1M count=4; done; sleep 3600";
    let made = lab.run(script, none()).await?;
    let layer = |bytes: u64, inodes: u64| {
        move |stats: &ContainerStats| {
            let layer = stats.writable_layer.as_ref().context("nothing of files")?;
            let used = told("bytes", layer.used_bytes)?;
            close("bytes", used, bytes, MIB)?;
            let told = told("inodes", layer.inodes_used)?;
            ensure!(told == inodes, "{told} inodes");
            let place = layer.fs_id.clone().context("no file system")?;
            ensure!(place.mountpoint == "/var/lib/skiff/images", "{place:?}");
            ensure!(layer.timestamp > 0);
            Ok(())
        }
    };
    lab.until(&made.id, layer(20 * MIB, 6)).await?;
    lab.exec(&made.id, "rm /d/1 /d/2 /d/3").await?;
    lab.until(&made.id, layer(8 * MIB, 3)).await
}

pub(crate) async fn processes(lab: &mut Lab) -> anyhow::Result<()> {
    let script = "for i in 1 2 3 4; do sleep 3600 & done; wait";
    let made = lab.run(script, none()).await?;
    let pod = made.config.clone();
    let other = lab
        .add(pod, made.pod.clone(), "other", "sleep 3600", none())
        .await?;
    let count = |made: &Made| Ok::<_, anyhow::Error>(made.file("cgroup.procs")?.lines().count());
    lab.until_pod(&made.pod, |stats| {
        let linux = stats.linux.as_ref().context("nothing of Linux")?;
        let process = linux.process.as_ref().context("nothing of processes")?;
        let told = told("processes", process.process_count)?;
        let is = count(&made)? + count(&other)?;
        ensure!(is == 6, "{is} processes");
        ensure!(told == 6, "{told} are told");
        ensure!(linux.containers.len() == 2, "{:?}", linux.containers);
        Ok(())
    })
    .await
}

pub(crate) async fn pressure_as_the_kernel_has_it(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab.run("while :; do :; done", none()).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stats = lab.stats(&made.id).await?;
    let cpu = stats.cpu.context("nothing of the processor")?.psi;
    let io = stats.io.and_then(|io| io.psi);
    // Without its controller nothing at all is told of memory.
    let memory = stats.memory.map(|memory| ("memory.pressure", memory.psi));
    let told = [("cpu.pressure", cpu), ("io.pressure", io)];
    for (file, told) in told.into_iter().chain(memory) {
        let is = made.file(file).ok();
        ensure!(
            told.is_some() == is.is_some(),
            "{file}: {told:?} told, {is:?}"
        );
        let (Some(PsiStats { some, full }), Some(is)) = (told, is) else {
            continue;
        };
        for (name, data) in [("some", some), ("full", full)] {
            let line = is.lines().find(|line| line.starts_with(name));
            ensure!(data.is_some() == line.is_some(), "{file} {name}");
            let (Some(data), Some(line)) = (data, line) else {
                continue;
            };
            let total = line.rsplit('=').next().context("no total")?;
            let total: u64 = total.parse()?;
            ensure!(data.total <= total * 1000, "{file}: {data:?} of {line}");
        }
    }
    Ok(())
}
