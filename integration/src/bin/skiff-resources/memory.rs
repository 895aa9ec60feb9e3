//! The end by memory, and swap.

use anyhow::ensure;
use skiff_cri::v1::{ContainerStatus, LinuxContainerResources};

use crate::lab::{Lab, MIB, Made, memory, unified};

/// Uses 48 MiB and keeps them, whoever of it is killed: they are files in memory.
const HUNGRY: &str = "head -c 50331648 /dev/zero > /dev/shm/x; sleep 3600";
/// A child uses 48 MiB as long as it lives.
const CHILD: &str = "dd if=/dev/zero of=/dev/null bs=48M count=1";

fn with(limit: i64, files: &[(&str, &str)]) -> LinuxContainerResources {
    LinuxContainerResources {
        unified: unified(files).unified,
        ..memory(limit)
    }
}

fn ended_with(status: &ContainerStatus, code: i32, reason: &str) -> anyhow::Result<()> {
    let (is, why) = (status.exit_code, &status.reason);
    ensure!(
        (is, &**why) == (code, reason),
        "exit code {is}, reason {why:?}"
    );
    Ok(())
}

/// With memory.oom.group, as a kubelet asks for by default.
pub(crate) async fn all_processes_go_together(lab: &mut Lab) -> anyhow::Result<()> {
    let made = lab
        .run(HUNGRY, with(32 * MIB, &[("memory.oom.group", "1")]))
        .await?;
    ended_with(&lab.ended(&made.id).await?, 137, "OOMKilled")
}

/// Without it only the child is killed: what its parent makes of that is the parent's exit code.
pub(crate) async fn a_child_alone(lab: &mut Lab) -> anyhow::Result<()> {
    let script = format!("{CHILD} || exit 9");
    let made = lab.run(&script, memory(32 * MIB)).await?;
    ended_with(&lab.ended(&made.id).await?, 9, "OOMKilled")?;
    let script = format!("{CHILD}; exit 0");
    let made = lab.run(&script, memory(32 * MIB)).await?;
    ended_with(&lab.ended(&made.id).await?, 0, "Completed")
}

pub(crate) async fn while_the_daemon_is_away(lab: &mut Lab) -> anyhow::Result<()> {
    let script = format!("sleep 1; {HUNGRY}");
    let made = lab
        .run(&script, with(32 * MIB, &[("memory.oom.group", "1")]))
        .await?;
    lab.daemon.crash()?;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    (lab.cri, _) = lab.daemon.restart().await?;
    ended_with(&lab.ended(&made.id).await?, 137, "OOMKilled")
}

/// Guaranteed and best-effort pods, and burstable ones whose kubelet gives them no swap.
pub(crate) async fn no_swap_is_the_end(lab: &mut Lab) -> anyhow::Result<()> {
    for request in [
        memory(32 * MIB),
        with(32 * MIB, &[("memory.swap.max", "0")]),
        LinuxContainerResources {
            memory_swap_limit_in_bytes: 32 * MIB,
            ..memory(32 * MIB)
        },
    ] {
        let made = lab.create(HUNGRY, request).await?;
        made.holds(&[("memory.swap.max", "0")])?;
        lab.cri.start(&made.id).await?;
        ended_with(&lab.ended(&made.id).await?, 137, "OOMKilled")?;
    }
    // best effort: no limit of its own, and no swap either
    let made = lab
        .run(HUNGRY, with(0, &[("memory.swap.max", "0")]))
        .await?;
    made.uses("memory.current", 48 << 20).await?;
    made.holds(&[("memory.swap.max", "0"), ("memory.swap.current", "0")])
}

/// A burstable pod of a kubelet with LimitedSwap, and the same in the terms of cgroup v1.
pub(crate) async fn swap_is_used_as_far_as_given(lab: &mut Lab) -> anyhow::Result<()> {
    let swapped = async |made: &Made| made.uses("memory.swap.current", 12 << 20).await;
    let made = lab
        .run(HUNGRY, with(32 * MIB, &[("memory.swap.max", "33554432")]))
        .await?;
    let used = swapped(&made).await?;
    ensure!(used <= 32 << 20, "{used} bytes of swap");
    made.holds(&[("memory.swap.max", "33554432")])?;
    let typed = LinuxContainerResources {
        memory_swap_limit_in_bytes: 64 * MIB,
        ..memory(32 * MIB)
    };
    let made = lab.run(HUNGRY, typed.clone()).await?;
    swapped(&made).await?;
    made.holds(&[("memory.swap.max", "33554432")])?;
    ensure!(lab.reported(&made.id).await? == typed);
    let alive = lab.cri.exec(&made.id, &["true"], 10).await?;
    ensure!(alive.exit_code == 0, "it does not run");
    // some is not enough
    let made = lab
        .run(HUNGRY, with(32 * MIB, &[("memory.swap.max", "4194304")]))
        .await?;
    ended_with(&lab.ended(&made.id).await?, 137, "OOMKilled")
}
