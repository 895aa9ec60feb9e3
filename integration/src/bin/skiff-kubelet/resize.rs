//! Limits of running containers, changed in place, and swap by class of service: an API server's
//! pods alone have either.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::cluster::kubectl;
use crate::lab::{Given, Lab};
use crate::manifest::{idle, pod};
use crate::status::Pod;

const MIB: u64 = 1 << 20;

fn amounts(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

async fn resize(given: &Given, resources: &Value) -> anyhow::Result<()> {
    let patch = json!({"spec": {"containers": [{"name": "main", "resources": resources}]}});
    let arguments = [
        "patch",
        "pod",
        &given.name,
        "--subresource",
        "resize",
        "--patch",
        &patch.to_string(),
    ];
    kubectl(&arguments).await.map(drop)
}

/// The pod's status tells these limits, and no resize is under way.
fn has(cpu: &'static str, memory: &'static str) -> impl Fn(&Pod) -> bool {
    move |pod| {
        let limits = &pod.0["status"]["containerStatuses"][0]["resources"]["limits"];
        limits["cpu"] == cpu && limits["memory"] == memory && !pod.is("PodResizeInProgress")
    }
}

/// CPU and memory go up and down again under a running container, and both the cgroup and the
/// status say so. What went up stays up when daemons are restarted.
pub(crate) async fn in_place_up_and_down(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = idle("main", json!({"resources": amounts("20m", "32Mi")}));
    let given = lab.give(&pod("resize", &[main], json!({}))).await?;
    let before = given.runs().await?;
    let id = before
        .container("main")
        .context("no main container")?
        .id()
        .to_owned();
    for (cpu, memory, quota, bytes) in [("60m", "96Mi", "6000", 96), ("30m", "48Mi", "3000", 48)] {
        resize(&given, &amounts(cpu, memory)).await?;
        let what = format!("it has {cpu} and {memory}");
        given.until(&what, has(cpu, memory)).await?;
        lab.midway().await?;
        let pod = given.until(&what, has(cpu, memory)).await?;
        let main = pod.container("main").context("no main container")?;
        ensure!(
            main.id() == id && main.restarts() == 0,
            "the container was restarted"
        );
        ensure!(lab.cgroup(&id, "cpu.max").await? == format!("{quota} 100000"));
        ensure!(lab.cgroup(&id, "memory.max").await? == (bytes * MIB).to_string());
    }
    given.remove().await
}

/// A container that asks for it is restarted for its memory, and not for its time.
pub(crate) async fn a_restart_where_it_is_asked_for(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = idle(
        "main",
        json!({
            "resources": amounts("20m", "32Mi"),
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}],
        }),
    );
    let given = lab.give(&pod("resize-restart", &[main], json!({}))).await?;
    given.runs().await?;
    resize(&given, &amounts("40m", "32Mi")).await?;
    let pod = given.until("it has more time", has("40m", "32Mi")).await?;
    ensure!(
        pod.container("main").is_some_and(|one| one.restarts() == 0),
        "restarted for its time"
    );
    resize(&given, &amounts("40m", "64Mi")).await?;
    given.restarted("main", 1).await?;
    given
        .until("it has more memory", has("40m", "64Mi"))
        .await?;
    lab.midway().await?;
    let pod = given.restarted("main", 1).await?;
    ensure!(has("40m", "64Mi")(&pod), "it has less again");
    let id = pod.container("main").context("no main container")?.id();
    let limit = lab.cgroup(id, "memory.max").await?;
    ensure!(limit == (64 * MIB).to_string(), "limited to {limit}");
    given.remove().await
}

/// LimitedSwap: a burstable container gets its share of the node's swap, the others get none.
pub(crate) async fn swap_by_class(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (memory, swap) = (node("MemTotal")?, node("SwapTotal")?);
    let request = 64 * MIB;
    let share = request as f64 / memory as f64 * swap as f64;
    let burstable = json!({"requests": {"memory": "64Mi"}});
    let cases = [
        ("swap-burstable", burstable, share),
        ("swap-best-effort", Value::Null, 0.0),
        ("swap-guaranteed", amounts("10m", "64Mi"), 0.0),
    ];
    let mut pods = Vec::new();
    for (name, resources, expected) in cases {
        let main = idle("main", json!({"resources": resources}));
        let given = lab.give(&pod(name, &[main], json!({}))).await?;
        given.runs().await?;
        pods.push((given, expected));
    }
    lab.midway().await?;
    for (given, expected) in pods {
        let pod = given.runs().await?;
        let id = pod.container("main").context("no main container")?.id();
        let limit: f64 = lab.cgroup(id, "memory.swap.max").await?.parse()?;
        // the kernel counts whole pages
        ensure!(
            (limit - expected).abs() <= 4096.0,
            "{}: {limit} bytes, not {expected}",
            given.name
        );
        given.remove().await?;
    }
    Ok(())
}

/// A line of /proc/meminfo, in bytes.
fn node(name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .context("no such line")?;
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .context("no number")?
        .parse()?;
    Ok(kib << 10)
}
