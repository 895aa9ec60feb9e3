//! The systemd driver, on a node where systemd is PID 1.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use skiff_cri::v1::{CgroupDriver, RuntimeConfigRequest};
use skiff_integration::client;
use tonic::Code;

use crate::lab::{Lab, MIB, memory, refused, unified};

const SLICE: &str = "kubepods-burstable-podlab.slice";
const SLICE_PATH: &str = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podlab.slice";

fn systemctl(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("systemctl").args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "systemctl {arguments:?}: {error}");
    Ok(text)
}

/// Names of the scopes that there are, ours.
fn scopes() -> anyhow::Result<Vec<String>> {
    let list = systemctl(&[
        "list-units",
        "--all",
        "--plain",
        "--no-legend",
        "skiff-*.scope",
    ])?;
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    Ok(names.map(str::to_owned).collect())
}

/// Waits for systemd to take the scopes away.
async fn none_left() -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left = scopes()?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "left: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn the_kubelet_is_told(lab: &mut Lab) -> anyhow::Result<()> {
    let answer = lab
        .cri
        .runtime
        .runtime_config(RuntimeConfigRequest {})
        .await?;
    let linux = answer.into_inner().linux.context("nothing about Linux")?;
    ensure!(linux.cgroup_driver() == CgroupDriver::Systemd, "{linux:?}");
    Ok(())
}

pub(crate) async fn both_spellings_of_a_parent(lab: &mut Lab) -> anyhow::Result<()> {
    for (parent, slice) in [
        (SLICE, SLICE_PATH),
        (SLICE_PATH, SLICE_PATH),
        ("", "/skiff.slice"),
    ] {
        let pod = lab.pod(parent);
        let made = lab.create_in(&pod, "sleep 3600", memory(64 * MIB)).await?;
        let expected = format!(
            "/sys/fs/cgroup{slice}/skiff-{}.scope/skiff-{}",
            made.pod, made.id
        );
        ensure!(
            made.cgroup == Path::new(&expected),
            "it is in {}",
            made.cgroup.display()
        );
        let unit = format!("skiff-{}.scope", made.pod);
        let state = systemctl(&["show", "-P", "ActiveState", &unit])?;
        ensure!(state == "active\n", "{unit} is {state:?}");
        let shown = systemctl(&["show", "-P", "ControlGroup", &unit])?;
        ensure!(
            shown.trim_end() == format!("{slice}/{unit}"),
            "{unit} is at {shown}"
        );
        made.holds(&[("memory.max", "67108864"), ("memory.swap.max", "0")])?;
        lab.cri.start(&made.id).await?;
        let inside = lab
            .cri
            .exec(&made.id, &["cat", "/proc/self/cgroup"], 10)
            .await?;
        ensure!(
            inside.stdout == b"0::/\n",
            "{:?}",
            String::from_utf8_lossy(&inside.stdout)
        );
    }
    Ok(())
}

pub(crate) async fn what_is_no_slice_is_refused(lab: &mut Lab) -> anyhow::Result<()> {
    for parent in [
        "/kubepods/burstable/podlab",
        "/system.slice/kubepods-a.slice",
    ] {
        let pod = lab.pod(parent);
        let answer = lab.cri.run_pod(&pod).await;
        refused(
            answer,
            Code::InvalidArgument,
            &["linux.cgroup_parent", "slice"],
        )?;
    }
    none_left().await
}

/// systemd writes nothing below what it has delegated, nor to what it has made for it.
pub(crate) async fn limits_hold_through_a_reload(lab: &mut Lab) -> anyhow::Result<()> {
    let pod = lab.pod(SLICE);
    let made = lab.create_in(&pod, "sleep 3600", memory(64 * MIB)).await?;
    lab.cri.start(&made.id).await?;
    lab.update(
        &made.id,
        unified(&[
            ("memory.max", "50331648"),
            ("cpu.weight", "7"),
            ("pids.max", "20"),
        ]),
    )
    .await?;
    let limits = [
        ("memory.max", "50331648"),
        ("cpu.weight", "7"),
        ("pids.max", "20"),
        ("memory.swap.max", "0"),
    ];
    made.holds(&limits)?;
    systemctl(&["daemon-reload"])?;
    made.holds(&limits)?;
    systemctl(&["daemon-reexec"])?;
    made.holds(&limits)?;
    let scope = made.cgroup.parent().context("no parent")?;
    for file in ["memory.max", "memory.min", "memory.low", "pids.max"] {
        let value = crate::lab::read(&scope.join(file))?;
        ensure!(value == "max", "{file} of the scope is {value}");
    }
    let alive = lab.cri.exec(&made.id, &["true"], 10).await?;
    ensure!(alive.exit_code == 0);
    Ok(())
}

/// The scope stays: what was counted in it is read after the end, and a restart finds it.
pub(crate) async fn memory_runs_out(lab: &mut Lab) -> anyhow::Result<()> {
    let script = "head -c 50331648 /dev/zero > /dev/shm/x; sleep 3600";
    let mut limits = memory(32 * MIB);
    limits.unified = unified(&[("memory.oom.group", "1")]).unified;
    let pod = lab.pod(SLICE);
    let made = lab.create_in(&pod, script, limits).await?;
    lab.cri.start(&made.id).await?;
    let status = lab.ended(&made.id).await?;
    let (code, reason) = (status.exit_code, &*status.reason);
    ensure!(
        (code, reason) == (137, "OOMKilled"),
        "exit code {code}, reason {reason:?}"
    );
    lab.cri.remove(&made.id).await?;
    let again = client::container("again", &["true"], &pod);
    let id = lab.cri.create(&made.pod, &again, &pod).await?;
    lab.cri.start(&id).await?;
    let status = lab.ended(&id).await?;
    ensure!(status.exit_code == 0, "exit code {}", status.exit_code);
    Ok(())
}

pub(crate) async fn a_pod_outlives_the_daemon(lab: &mut Lab) -> anyhow::Result<()> {
    let pod = lab.pod(SLICE);
    let made = lab.create_in(&pod, "sleep 3600", memory(64 * MIB)).await?;
    lab.cri.start(&made.id).await?;
    lab.crash().await?;
    let alive = lab.cri.exec(&made.id, &["true"], 10).await?;
    ensure!(alive.exit_code == 0);
    let more = client::container("more", &["sleep", "3600"], &pod);
    let id = lab.cri.create(&made.pod, &more, &pod).await?;
    lab.cri.start(&id).await?;
    ensure!(scopes()? == [format!("skiff-{}.scope", made.pod)]);
    Ok(())
}

pub(crate) async fn nothing_is_left(lab: &mut Lab) -> anyhow::Result<()> {
    let pod = lab.pod(SLICE);
    let made = lab
        .create_in(&pod, "trap '' TERM; sleep 3600", memory(64 * MIB))
        .await?;
    lab.cri.start(&made.id).await?;
    lab.cri.stop(&made.id, 1).await?;
    lab.cri.remove(&made.id).await?;
    lab.cri.discard_pod(&made.pod).await?;
    none_left().await?;
    let left = systemctl(&[
        "list-units",
        "--all",
        "--failed",
        "--plain",
        "--no-legend",
        "skiff-*",
    ])?;
    ensure!(left.is_empty(), "failed units: {left}");
    let slice = format!("/sys/fs/cgroup{SLICE_PATH}");
    let below = std::fs::read_dir(&slice).map_or(0, |list| {
        list.flatten().filter(|entry| entry.path().is_dir()).count()
    });
    ensure!(below == 0, "{below} cgroups are left in {slice}");
    systemctl(&["stop", SLICE])?;
    Ok(())
}

/// At any moment: the next daemon knows the pod, or there is none and no scope either.
pub(crate) async fn a_daemon_killed_while_pods_start(lab: &mut Lab) -> anyhow::Result<()> {
    for pause in [1, 3, 6, 10, 15, 20, 30, 50] {
        let pod = lab.pod(SLICE);
        let mut cri = lab.cri.clone();
        let run = tokio::spawn(async move { cri.run_pod(&pod).await });
        tokio::time::sleep(Duration::from_millis(pause)).await;
        lab.crash().await?;
        let _ = run.await?;
        lab.clear().await?;
        none_left()
            .await
            .with_context(|| format!("killed after {pause} ms"))?;
    }
    Ok(())
}

/// The init of a pod does not make systemd wait until it kills, and costs little.
pub(crate) async fn a_scope_that_is_stopped_ends_soon(lab: &mut Lab) -> anyhow::Result<()> {
    let pod = lab.pod(SLICE);
    let script = "trap 'exit 0' TERM; sleep 3600 & wait";
    let made = lab.create_in(&pod, script, memory(64 * MIB)).await?;
    lab.cri.start(&made.id).await?;
    let scope = made.cgroup.parent().context("no parent")?;
    let leaf = scope.join(format!("skiff-{}", made.pod));
    let init = crate::lab::read(&leaf.join("cgroup.procs"))?;
    let rollup = std::fs::read_to_string(format!("/proc/{init}/smaps_rollup"))?;
    let own = rollup.lines().filter(|line| line.starts_with("Private_"));
    let own: u64 = own
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum();
    ensure!(own <= 512, "the pod's init has {own} kB of its own");
    let began = Instant::now();
    systemctl(&["stop", SLICE])?;
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(20), "it took {took:?}");
    lab.cri.discard_pod(&made.pod).await?;
    none_left().await
}
