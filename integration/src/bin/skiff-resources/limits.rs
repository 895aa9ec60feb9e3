//! Limits of a new container.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use skiff_cri::v1::LinuxContainerResources;
use skiff_integration::{client, process};

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

/// What is known of a container that somebody has asked for before is what the kernel has, whoever
/// writes there.
pub(crate) async fn the_status_follows_every_write(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab.run("sleep 3600", burstable()).await?;
    lab.reported(&made.id).await?;
    // The questions of a start are answered from the files.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for mebibytes in [80, 90, 100, 110] {
        fs::write(
            made.cgroup.join("memory.max"),
            (mebibytes * MIB).to_string(),
        )?;
        for _ in 0..3 {
            let now = lab.reported(&made.id).await?;
            ensure!(now.memory_limit_in_bytes == mebibytes * MIB, "{now:?}");
        }
    }
    by_another_mount(&made.cgroup, 70 * MIB)?;
    let now = lab.reported(&made.id).await?;
    ensure!(now.memory_limit_in_bytes == 70 * MIB, "{now:?}");
    let before = watches()?;
    lab.cri.stop(&made.id, 0).await?;
    lab.cri.remove(&made.id).await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while watches()? >= before {
        ensure!(Instant::now() < deadline, "what is gone is still watched");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// As a container with a mount of its own writes.
fn by_another_mount(cgroup: &Path, bytes: i64) -> anyhow::Result<()> {
    let other = Path::new("/run/another-cgroup2");
    fs::create_dir_all(other)?;
    mount("none", other, "cgroup2", MountFlags::empty(), None).context("mount cgroup2")?;
    let below = cgroup.strip_prefix("/sys/fs/cgroup")?;
    let written = fs::write(other.join(below).join("memory.max"), bytes.to_string());
    unmount(other, UnmountFlags::empty()).context("unmount cgroup2")?;
    Ok(written?)
}

/// How many files and directories the daemon has the kernel tell of.
fn watches() -> anyhow::Result<usize> {
    let daemons = process::named("skiffd");
    let [daemon] = daemons[..] else {
        bail!("not one skiffd: {daemons:?}");
    };
    let mut watches = 0;
    for entry in fs::read_dir(format!("/proc/{daemon}/fdinfo"))? {
        // It may be closed by now.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let is_watch = |line: &&str| line.starts_with("inotify wd:");
        watches += text.lines().filter(is_watch).count();
    }
    Ok(watches)
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
