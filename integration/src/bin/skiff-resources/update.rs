//! UpdateContainerResources and UpdatePodSandboxResources.

use std::fs;
use std::path::Path;
use std::pin::pin;

use anyhow::{Context, ensure};
use skiff_cri::v1::{
    LinuxContainerResources, NamespaceMode, UpdateContainerResourcesRequest,
    UpdatePodSandboxResourcesRequest,
};
use skiff_integration::{client, process};
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
    let mut pod = lab.pod("/kubepods/pod1");
    // an init of a shared PID namespace would be one more process
    let security = pod
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default();
    security
        .namespace_options
        .get_or_insert_default()
        .set_pid(NamespaceMode::Container);
    let made = lab
        .create_in(&pod, "exec sleep 3600", memory(64 * MIB))
        .await?;
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
    refused(answer, Code::NotFound, &["pod"])?;
    // Of the pod's limit of processes only the container's own count: its monitor is elsewhere.
    lab.cri.start(&made.id).await?;
    let counted = read(&own.join("pids.current"))?;
    ensure!(counted == "1", "{counted} processes in the pod's cgroup");
    for shim in process::running("skiff-shim") {
        let cgroup = read(Path::new(&format!("/proc/{shim}/cgroup")))?;
        ensure!(!cgroup.contains("kubepods"), "a shim is in {cgroup}");
    }
    lab.cri.discard_pod(&made.pod).await?;
    ensure!(state()? == before, "the pod's cgroup was written to");
    let below = fs::read_dir(&own)?.flatten();
    let below: Vec<_> = below.filter(|entry| entry.path().is_dir()).collect();
    ensure!(below.is_empty(), "left in the pod's cgroup: {below:?}");
    Ok(())
}

/// Of two changes at once one is refused by the kernel after it has written some: what the other has
/// written stays, whichever comes first.
pub(crate) async fn two_at_once(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab.run("sleep 3600", memory(64 * MIB)).await?;
    for round in 1..=10 {
        let good = LinuxContainerResources {
            cpu_shares: 1000 + round,
            cpu_quota: 10_000 * round,
            ..memory((64 + round) * MIB)
        };
        let bad = LinuxContainerResources {
            cpu_shares: 2,
            cpu_quota: 5_000,
            unified: unified(&[("pids.max", "many")]).unified,
            ..memory(256 * MIB)
        };
        let request = |resources| UpdateContainerResourcesRequest {
            container_id: made.id.clone(),
            linux: Some(resources),
            ..Default::default()
        };
        let (mut one, mut other) = (lab.cri.runtime.clone(), lab.cri.runtime.clone());
        let (first, second) = match round % 2 {
            0 => (good.clone(), bad),
            _ => (bad, good.clone()),
        };
        let answers = tokio::join!(
            one.update_container_resources(request(first)),
            other.update_container_resources(request(second)),
        );
        let refusals = [answers.0.err(), answers.1.err()];
        let refused = refusals.iter().flatten().count();
        ensure!(refused == 1, "refused: {refusals:?}");
        made.holds(&[
            ("cpu.max", &format!("{} 100000", 10_000 * round)),
            ("memory.max", &((64 + round) * MIB).to_string()),
            ("pids.max", "max"),
        ])?;
        let now = lab.reported(&made.id).await?;
        ensure!(now.cpu_shares == good.cpu_shares, "round {round}: {now:?}");
    }
    Ok(())
}

/// While the kernel takes much memory to swap for a lower limit, the pod's other calls are answered.
pub(crate) async fn others_do_not_wait_for_a_reclaim(lab: &mut Lab) -> anyhow::Result<()> {
    // dd has read all of it and cannot write
    let script = "mkfifo /p; sleep 3600 </p & exec dd if=/dev/zero of=/p bs=160M count=1";
    let mut limits = memory(512 * MIB);
    limits.unified = unified(&[("memory.swap.max", "201326592")]).unified;
    let pod = lab.pod("");
    let made = lab.create_in(&pod, script, limits).await?;
    lab.cri.start(&made.id).await?;
    let beside = client::container("beside", &["sleep", "3600"], &pod);
    let beside = lab.cri.create(&made.pod, &beside, &pod).await?;
    lab.cri.start(&beside).await?;
    made.uses("memory.current", 160 << 20).await?;
    let request = UpdateContainerResourcesRequest {
        container_id: made.id.clone(),
        linux: Some(memory(16 * MIB)),
        ..Default::default()
    };
    let mut runtime = lab.cri.runtime.clone();
    let mut change = pin!(runtime.update_container_resources(request));
    let mut execs = 0;
    loop {
        let exec = lab.cri.exec(&beside, &["true"], 60);
        let answer = tokio::select! {
            biased;
            answer = &mut change => {
                answer.context("UpdateContainerResources")?;
                break;
            }
            answer = exec => answer,
        };
        ensure!(answer?.exit_code == 0);
        execs += 1;
    }
    made.holds(&[("memory.max", "16777216"), ("memory.high", "max")])?;
    ensure!(execs > 0, "no exec was answered before the change");
    Ok(())
}
