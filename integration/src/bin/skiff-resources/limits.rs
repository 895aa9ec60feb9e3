//! Limits of a new container.

use std::fs;

use anyhow::{Context, ensure};
use skiff_cri::v1::LinuxContainerResources;
use skiff_integration::client;

use crate::lab::{Lab, MIB, memory, said, unified};

/// What a kubelet sends for a burstable container.
fn burstable() -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        oom_score_adj: 500,
        unified: unified(&[
            ("memory.oom.group", "1"),
            ("memory.high", "50331648"),
            ("memory.min", "8388608"),
            ("memory.low", "16777216"),
            ("pids.max", "50"),
        ])
        .unified,
        ..memory(64 * MIB)
    }
}

pub(crate) async fn all_are_there_before_the_start(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab.create("sleep 3600", burstable()).await?;
    made.holds(&[
        ("cpu.weight", "59"),
        ("cpu.max", "50000 100000"),
        ("memory.max", "67108864"),
        ("memory.high", "50331648"),
        ("memory.min", "8388608"),
        ("memory.low", "16777216"),
        ("memory.oom.group", "1"),
        ("memory.swap.max", "0"),
        ("pids.max", "50"),
    ])?;
    lab.cri.start(&made.id).await?;
    let inside = lab.cri.exec(
        &made.id,
        &["cat", "/sys/fs/cgroup/memory.max", "/proc/1/oom_score_adj"],
        10,
    );
    let inside = String::from_utf8_lossy(&inside.await?.stdout).into_owned();
    ensure!(inside == "67108864\n500\n", "inside is {inside:?}");
    ensure!(lab.reported(&made.id).await? == burstable());
    Ok(())
}

pub(crate) async fn nothing_asked_for_is_no_swap(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab
        .create("sleep 3600", LinuxContainerResources::default())
        .await?;
    made.holds(&[
        ("memory.swap.max", "0"),
        ("memory.max", "max"),
        ("cpu.max", "max 100000"),
    ])
}

pub(crate) async fn unified_wins(lab: &mut Lab) -> anyhow::Result<()> {
    let request = LinuxContainerResources {
        cpu_shares: 2,
        memory_swap_limit_in_bytes: 96 * MIB,
        unified: unified(&[
            ("memory.max", "16777216"),
            ("memory.swap.max", "4096"),
            ("cpu.weight", "7"),
        ])
        .unified,
        ..memory(64 * MIB)
    };
    let made = lab.create("sleep 3600", request).await?;
    made.holds(&[
        ("memory.max", "16777216"),
        ("memory.swap.max", "4096"),
        ("cpu.weight", "7"),
    ])
}

/// And nothing of the container is left.
pub(crate) async fn a_bad_unified_is_told_by_its_key(lab: &mut Lab) -> anyhow::Result<()> {
    let pod = lab.pod("");
    let pod_id = lab.cri.run_pod(&pod).await?;
    for (key, value) in [
        ("memory.max", "much"),
        ("memory.no-such-file", "1"),
        ("../memory.max", "1"),
        ("cgroup.procs", "1"),
        ("nonsense.max", "1"),
    ] {
        let mut config = client::container("main", &["true"], &pod);
        config.linux.get_or_insert_default().resources = Some(unified(&[(key, value)]));
        let Err(status) = lab.cri.create(&pod_id, &config, &pod).await else {
            anyhow::bail!("{key}={value} was taken");
        };
        said(status.message(), &[key])?;
    }
    Ok(())
}

pub(crate) async fn the_status_says_what_the_files_say(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab.run("sleep 3600", burstable()).await?;
    fs::write(made.cgroup.join("memory.max"), "83886080")?;
    fs::write(made.cgroup.join("cpu.weight"), "100")?;
    fs::write(made.cgroup.join("cpu.max"), "max")?;
    let now = lab.reported(&made.id).await?;
    ensure!(now.memory_limit_in_bytes == 80 * MIB, "{now:?}");
    ensure!(now.cpu_shares == 1024 && now.cpu_quota == -1, "{now:?}");
    ensure!(now.unified == burstable().unified, "{now:?}");
    Ok(())
}

/// Kinds of limits that no typed field has: bursts, idle processors, traffic with a disk.
pub(crate) async fn burst_idle_and_disk(lab: &mut Lab) -> anyhow::Result<()> {
    let mut request = unified(&[("cpu.max.burst", "20000")]);
    (request.cpu_quota, request.cpu_period) = (50_000, 100_000);
    let disks = fs::read_dir("/sys/class/block")?.flatten();
    let disk = disks
        .map(|entry| entry.path())
        .find(|path| !path.join("partition").exists() && path.join("device").exists());
    let disk = disk.context("no disk on this node")?;
    let disk = crate::lab::read(&disk.join("dev"))?;
    let bytes = format!("{disk} rbps=1048576 wbps=max riops=max wiops=max");
    request.unified.insert("io.max".to_owned(), bytes.clone());
    let made = lab.create("sleep 3600", request).await?;
    made.holds(&[
        ("cpu.max.burst", "20000"),
        ("cpu.max", "50000 100000"),
        ("io.max", &bytes),
    ])?;
    let made = lab
        .create("sleep 3600", unified(&[("cpu.idle", "1")]))
        .await?;
    made.holds(&[("cpu.idle", "1")])
}
