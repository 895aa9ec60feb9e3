//! UpdateContainerResources and UpdatePodSandboxResources.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use skiff_cri::v1::{LinuxContainerResources, UpdatePodSandboxResourcesRequest};
use tonic::Code;

use crate::lab::{Lab, MIB, memory, read, refused, unified};

pub(crate) async fn raised_and_lowered(lab: &mut Lab) -> anyhow::Result<()> {
    let asked = LinuxContainerResources {
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        ..memory(64 * MIB)
    };
    let made = lab.run("sleep 3600", asked.clone()).await?;
    for (shares, quota, limit, files) in [
        (
            1024,
            80_000,
            128,
            [
                ("cpu.weight", "100"),
                ("cpu.max", "80000 100000"),
                ("memory.max", "134217728"),
            ],
        ),
        (
            2,
            20_000,
            32,
            [
                ("cpu.weight", "1"),
                ("cpu.max", "20000 100000"),
                ("memory.max", "33554432"),
            ],
        ),
    ] {
        let change = LinuxContainerResources {
            cpu_shares: shares,
            cpu_quota: quota,
            ..memory(limit * MIB)
        };
        lab.update(&made.id, change.clone()).await?;
        made.holds(&files)?;
        made.holds(&[("memory.swap.max", "0")])?;
        let expected = LinuxContainerResources {
            cpu_period: 100_000,
            ..change
        };
        let now = lab.reported(&made.id).await?;
        ensure!(now == expected, "reported {now:?}");
    }
    lab.update(
        &made.id,
        unified(&[("memory.high", "16777216"), ("pids.max", "20")]),
    )
    .await?;
    made.holds(&[
        ("memory.high", "16777216"),
        ("pids.max", "20"),
        ("memory.max", "33554432"),
    ])
}

pub(crate) async fn before_the_start(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab.create("sleep 3600", memory(64 * MIB)).await?;
    lab.update(&made.id, memory(48 * MIB)).await?;
    made.holds(&[("memory.max", "50331648")])?;
    lab.cri.start(&made.id).await?;
    made.holds(&[("memory.max", "50331648")])
}

/// One of several changes is refused by the kernel: none is made.
pub(crate) async fn all_or_nothing(lab: &mut Lab) -> anyhow::Result<()> {
    let asked = LinuxContainerResources {
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        oom_score_adj: 100,
        ..memory(64 * MIB)
    };
    let made = lab.run("sleep 3600", asked.clone()).await?;
    let before = [
        ("cpu.weight", "59"),
        ("cpu.max", "50000 100000"),
        ("memory.max", "67108864"),
        ("memory.high", "max"),
        ("pids.max", "max"),
    ];
    made.holds(&before)?;
    let change = LinuxContainerResources {
        cpu_shares: 1024,
        cpu_quota: 80_000,
        oom_score_adj: 200,
        unified: unified(&[("memory.high", "1048576"), ("pids.max", "many")]).unified,
        ..memory(128 * MIB)
    };
    let answer = lab.update(&made.id, change).await;
    refused(answer, Code::InvalidArgument, &["pids.max", "many"])?;
    made.holds(&before)?;
    let score = lab
        .cri
        .exec(&made.id, &["cat", "/proc/1/oom_score_adj"], 10)
        .await?;
    ensure!(score.stdout == b"100\n", "the score has changed");
    let now = lab.reported(&made.id).await?;
    ensure!(now == asked, "reported {now:?}");
    Ok(())
}

/// A limit below what cannot be reclaimed is refused, and nothing is killed for it.
pub(crate) async fn memory_in_use_is_not_taken(lab: &mut Lab) -> anyhow::Result<()> {
    let script = "head -c 41943040 /dev/zero > /dev/shm/x; echo there; sleep 3600";
    let made = lab.run(script, memory(96 * MIB)).await?;
    made.uses("memory.current", 40 << 20).await?;
    let answer = lab.update(&made.id, memory(16 * MIB)).await;
    refused(answer, Code::FailedPrecondition, &["in use", "16777216"])?;
    made.holds(&[("memory.max", "100663296"), ("memory.high", "max")])?;
    let alive = lab.cri.exec(&made.id, &["true"], 10).await?;
    ensure!(alive.exit_code == 0);
    Ok(())
}

/// Page cache is given back for a lower limit.
pub(crate) async fn what_can_be_reclaimed_is(lab: &mut Lab) -> anyhow::Result<()> {
    let script = "head -c 41943040 /dev/zero > /file; sync; echo there; sleep 3600";
    let made = lab.run(script, memory(96 * MIB)).await?;
    made.uses("memory.current", 40 << 20).await?;
    lab.update(&made.id, memory(16 * MIB)).await?;
    made.holds(&[("memory.max", "16777216"), ("memory.high", "max")])?;
    let alive = lab.cri.exec(&made.id, &["true"], 10).await?;
    ensure!(alive.exit_code == 0);
    Ok(())
}

pub(crate) async fn score_of_all_processes(lab: &mut Lab) -> anyhow::Result<()> {
    let script = "sleep 3601 & (echo 900 > /proc/self/oom_score_adj; exec sleep 3602) & wait";
    let asked = LinuxContainerResources {
        oom_score_adj: 300,
        ..Default::default()
    };
    let made = lab.run(script, asked).await?;
    made.uses("pids.current", 3).await?;
    let change = LinuxContainerResources {
        oom_score_adj: 400,
        ..Default::default()
    };
    lab.update(&made.id, change).await?;
    let script = "for i in /proc/[0-9]*; do echo $(cat $i/cmdline | tr '\\0' ' ') $(cat $i/oom_score_adj); done";
    let inside = lab.cri.exec(&made.id, &["sh", "-c", script], 10).await?;
    let inside = String::from_utf8_lossy(&inside.stdout).into_owned();
    for (process, score) in [
        ("sleep 3601", "400"),
        ("sleep 3602", "900"),
        ("sh -c for", "400"),
    ] {
        let line = inside.lines().find(|line| line.starts_with(process));
        let line = line.with_context(|| format!("no {process} in {inside:?}"))?;
        ensure!(line.ends_with(score), "{line:?}");
    }
    Ok(())
}

pub(crate) async fn after_the_end(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab.run("true", memory(64 * MIB)).await?;
    lab.ended(&made.id).await?;
    let answer = lab.update(&made.id, memory(32 * MIB)).await;
    refused(answer, Code::FailedPrecondition, &["exited"])?;
    ensure!(lab.reported(&made.id).await?.memory_limit_in_bytes == 64 * MIB);
    let answer = lab.update(&"0".repeat(64), memory(32 * MIB)).await;
    refused(answer, Code::NotFound, &["container"])
}

pub(crate) async fn outlives_the_daemon(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab.run("sleep 3600", memory(64 * MIB)).await?;
    let change = LinuxContainerResources {
        cpu_shares: 500,
        oom_score_adj: 7,
        ..memory(80 * MIB)
    };
    lab.update(&made.id, change.clone()).await?;
    lab.crash().await?;
    let now = lab.reported(&made.id).await?;
    ensure!(now == change, "reported {now:?}");
    let score = lab
        .cri
        .exec(&made.id, &["cat", "/proc/self/oom_score_adj"], 10)
        .await?;
    ensure!(score.stdout == b"7\n", "an exec has another score");
    Ok(())
}

/// Neither at the pod's start nor when the kubelet tells that it has changed it.
pub(crate) async fn the_pods_cgroup_is_the_kubelets(lab: &mut Lab) -> anyhow::Result<()> {
    let kubepods = Path::new("/sys/fs/cgroup/kubepods");
    let own = kubepods.join("pod1");
    for (dir, below) in [
        (kubepods, "/sys/fs/cgroup"),
        (&own, "/sys/fs/cgroup/kubepods"),
    ] {
        fs::create_dir_all(dir)?;
        fs::write(
            Path::new(below).join("cgroup.subtree_control"),
            "+cpu +memory +pids",
        )?;
    }
    fs::write(own.join("cgroup.subtree_control"), "+cpu +memory +pids")?;
    fs::write(own.join("memory.max"), "134217728")?;
    let state = || -> anyhow::Result<Vec<String>> {
        [
            "memory.max",
            "cpu.weight",
            "cpu.max",
            "memory.swap.max",
            "cgroup.subtree_control",
        ]
        .iter()
        .map(|file| read(&own.join(file)))
        .collect()
    };
    let before = state()?;
    let pod = lab.pod("/kubepods/pod1");
    let made = lab.create_in(&pod, "sleep 3600", memory(64 * MIB)).await?;
    ensure!(
        made.cgroup.starts_with(&own),
        "it is in {}",
        made.cgroup.display()
    );
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: made.pod.clone(),
        overhead: Some(memory(MIB)),
        resources: Some(memory(96 * MIB)),
    };
    lab.cri
        .runtime
        .update_pod_sandbox_resources(request.clone())
        .await?;
    ensure!(state()? == before, "the pod's cgroup was written to");
    let unknown = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: "0".repeat(64),
        ..request
    };
    let answer = lab.cri.runtime.update_pod_sandbox_resources(unknown).await;
    refused(answer, Code::NotFound, &["pod"])
}
