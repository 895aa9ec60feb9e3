//! Limits of cgroup v2: given, changed while the container runs, and reached.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use skiff_cri::v1::LinuxContainerResources;

use crate::inside::Inside;
use crate::lab::{Lab, SHELL, Shape, same};

const MIB: i64 = 1 << 20;

fn file<'a>(inside: &'a Inside<'_>, name: &str) -> anyhow::Result<&'a str> {
    let files = &inside.report.cgroup_files;
    let content = files
        .get(name)
        .with_context(|| format!("no {name} in the cgroup"))?;
    Ok(content)
}

/// Reads the cgroup anew.
async fn refresh(inside: &mut Inside<'_>) -> anyhow::Result<()> {
    inside.report = inside.exec_report().await?;
    Ok(())
}

fn files(inside: &Inside<'_>, expected: &[(&str, &str)]) -> anyhow::Result<()> {
    for (name, content) in expected {
        same(name, file(inside, name)?, content)?;
    }
    Ok(())
}

pub(crate) async fn limits(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("limits");
    *shape.resources() = LinuxContainerResources {
        cpu_period: 50_000,
        cpu_quota: 20_000,
        cpu_shares: 1024,
        memory_limit_in_bytes: 64 * MIB,
        ..Default::default()
    };
    lab.look(shape, async |inside| {
        // 1024 shares are the weight 100: runc 1.3.2 and systemd's own default agree on it
        files(
            inside,
            &[
                ("cpu.max", "20000 50000"),
                ("memory.max", "67108864"),
                ("memory.swap.max", "0"),
            ],
        )?;
        let weight: u32 = file(inside, "cpu.weight")?.parse()?;
        ensure!(
            (39..=100).contains(&weight),
            "cpu.weight {weight} for 1024 shares"
        );
        let told = inside.told().await?;
        same("cpu_quota told", told.cpu_quota, 20_000)?;
        same("cpu_period told", told.cpu_period, 50_000)?;
        same("memory limit told", told.memory_limit_in_bytes, 64 * MIB)
    })
    .await
}

/// Nothing asked for: no limit, and no swap by accident.
pub(crate) async fn no_limits(lab: &mut Lab) -> anyhow::Result<()> {
    lab.look(Shape::new("no-limits"), async |inside| {
        files(
            inside,
            &[
                ("cpu.max", "max 100000"),
                ("memory.max", "max"),
                ("memory.swap.max", "0"),
            ],
        )
    })
    .await
}

/// `unified` is written as it is and wins over the typed field.
pub(crate) async fn unified(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("unified");
    let resources = shape.resources();
    resources.memory_limit_in_bytes = 64 * MIB;
    resources.cpu_shares = 1024;
    for (key, value) in [
        ("memory.max", "50331648"),
        ("memory.high", "41943040"),
        ("memory.low", "4194304"),
        ("memory.min", "1048576"),
        ("cpu.weight", "321"),
        ("pids.max", "77"),
        ("memory.swap.max", "8388608"),
    ] {
        resources.unified.insert(key.to_owned(), value.to_owned());
    }
    let expected = resources.unified.clone();
    lab.look(shape, async |inside| {
        for (name, content) in &expected {
            same(name, file(inside, name)?, content)?;
        }
        Ok(())
    })
    .await
}

/// A key that the kernel does not have is an error that names it.
pub(crate) async fn unified_key_that_is_none(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("no-such-key");
    let unified = &mut shape.resources().unified;
    unified.insert("memory.colour".to_owned(), "blue".to_owned());
    lab.refuses(shape, &["memory.colour"]).await
}

/// Up, down, and nothing of an update that cannot be done.
pub(crate) async fn update_while_it_runs(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("update");
    *shape.resources() = skiff_integration::client::limits();
    lab.look(shape, async |inside| {
        for (memory, quota) in [(256 * MIB, 80_000), (48 * MIB, 10_000)] {
            inside
                .update(LinuxContainerResources {
                    memory_limit_in_bytes: memory,
                    cpu_quota: quota,
                    cpu_period: 100_000,
                    ..Default::default()
                })
                .await
                .context("UpdateContainerResources")?;
            refresh(inside).await?;
            files(
                inside,
                &[
                    ("memory.max", &memory.to_string()),
                    ("cpu.max", &format!("{quota} 100000")),
                ],
            )?;
            let told = inside.told().await?;
            same("memory limit told", told.memory_limit_in_bytes, memory)?;
            same("cpu_quota told", told.cpu_quota, quota)?;
        }
        let mut impossible = LinuxContainerResources {
            memory_limit_in_bytes: 96 * MIB,
            ..Default::default()
        };
        impossible
            .unified
            .insert("memory.colour".to_owned(), "blue".to_owned());
        let refused = inside.update(impossible).await;
        ensure!(
            refused.is_err(),
            "an update with a key that is none succeeded"
        );
        refresh(inside).await?;
        same(
            "memory.max after it",
            file(inside, "memory.max")?,
            &(48 * MIB).to_string(),
        )
    })
    .await
}

/// Beyond its limit and without swap: killed, by that name.
pub(crate) async fn out_of_memory(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("out-of-memory");
    shape.run(&["allocate", &(48 * MIB).to_string()]);
    shape.resources().memory_limit_in_bytes = 24 * MIB;
    let status = lab.end(shape).await?;
    same("reason", status.reason.as_str(), "OOMKilled")?;
    same("exit code", status.exit_code, 137)
}

/// A child that is killed takes the container with it, as a kubelet expects.
pub(crate) async fn out_of_memory_of_a_child(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("child-out-of-memory");
    shape.run(&["hold"]);
    let script = format!("/skiff-probe allocate {}; sleep 3600", 48 * MIB);
    shape
        .mount("/usr/local/bin/skiff-probe", "/skiff-probe")
        .readonly = true;
    shape.container.command = vec!["sh".to_owned(), "-c".to_owned(), script];
    shape.container.image = Some(skiff_integration::client::image_spec(SHELL));
    let resources = shape.resources();
    resources.memory_limit_in_bytes = 24 * MIB;
    let (key, value) = ("memory.oom.group".to_owned(), "1".to_owned());
    resources.unified.insert(key, value);
    let status = lab.end(shape).await?;
    same("reason", status.reason.as_str(), "OOMKilled")?;
    same("exit code", status.exit_code, 137)
}

async fn lives_on_swap(
    lab: &mut Lab,
    name: &str,
    change: impl FnOnce(&mut LinuxContainerResources),
) -> anyhow::Result<()> {
    let mut shape = Shape::new(name);
    shape.resources().memory_limit_in_bytes = 24 * MIB;
    change(shape.resources());
    lab.look(shape, async |inside| {
        same(
            "memory.swap.max",
            file(inside, "memory.swap.max")?,
            "33554432",
        )?;
        let id = inside
            .beside("hungry", |shape| {
                shape.run(&["allocate", &(40 * MIB).to_string()]);
            })
            .await?;
        let said = inside.said("hungry").await?;
        same("what it says", said, format!("allocated {}", 40 * MIB))?;
        let status = inside
            .lab
            .cri
            .status(&id)
            .await
            .context("ContainerStatus")?;
        same(
            "state",
            status.state(),
            skiff_cri::v1::ContainerState::ContainerRunning,
        )?;
        let files = ["memory.swap.current", "memory.current", "memory.events"];
        let files = files.map(|file| format!("/sys/fs/cgroup/{file}"));
        let command = ["cat", &files[0], &files[1], &files[2]];
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = inside.lab.cri.exec(&id, &command, 60).await;
            let answer = answer.context("ExecSync")?;
            let text = String::from_utf8_lossy(&answer.stdout);
            let used = text.lines().next().unwrap_or_default();
            let used: i64 = used.parse().with_context(|| text.clone().into_owned())?;
            if used >= 12 * MIB {
                return Ok(());
            }
            // An emulated kernel once told of less at first.
            ensure!(
                Instant::now() < deadline,
                "swap in use, memory, and its events: {text}"
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await
}

/// The same with swap, given as the kubelet does: it lives.
pub(crate) async fn swap_by_unified(lab: &mut Lab) -> anyhow::Result<()> {
    lives_on_swap(lab, "swap-unified", |resources| {
        let value = (32 * MIB).to_string();
        resources
            .unified
            .insert("memory.swap.max".to_owned(), value);
    })
    .await
}

/// The same with swap, given as memory and swap together.
pub(crate) async fn swap_by_the_typed_field(lab: &mut Lab) -> anyhow::Result<()> {
    lives_on_swap(lab, "swap-typed", |resources| {
        resources.memory_swap_limit_in_bytes = 56 * MIB;
    })
    .await
}
