//! The order of containers within a pod: init containers, sidecars, and the others.

use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::lab::Lab;
use crate::manifest::{IDLE, container, exec, host_directory, idle, pod, probe, scratch, sidecar};
use crate::node::scratch_directory;
use crate::status::Pod;

/// The times at which a container started and ended, in nanoseconds.
async fn times(lab: &Lab, pod: &Pod, name: &str) -> anyhow::Result<(i64, i64)> {
    let container = pod
        .container(name)
        .with_context(|| format!("no container {name}"))?;
    let status = lab.status(container.id()).await?;
    Ok((status.started_at, status.finished_at))
}

/// Init containers run one after the other, each to its end, before the others start.
pub(crate) async fn init_containers_run_one_by_one(lab: Arc<Lab>) -> anyhow::Result<()> {
    let shared = json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]});
    let step = |name: &str| {
        container(
            name,
            &format!("sleep 0.3; echo {name} >>/shared/order"),
            shared.clone(),
        )
    };
    let main = container(
        "main",
        &format!("cat /shared/order; {IDLE}"),
        shared.clone(),
    );
    let spec = json!({
        "initContainers": [step("one"), step("two"), step("three")],
        "volumes": [scratch("shared")],
    });
    let (given, pod) = lab.run(&pod("init-order", &[main], spec)).await?;
    let main = pod.container("main").context("no main container")?;
    lab.logs(main.id(), &["one", "two", "three"]).await?;
    ensure!(main.restarts() == 0, "main restarted");
    let mut before = 0;
    for name in ["one", "two", "three", "main"] {
        let (started, ended) = times(&lab, &pod, name).await?;
        ensure!(
            before <= started,
            "{name} started before its predecessor had ended"
        );
        before = ended;
    }
    given.remove().await
}

/// An init container that fails is run again until it does not.
pub(crate) async fn a_failing_init_container_is_repeated(lab: Arc<Lab>) -> anyhow::Result<()> {
    let shared = json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]});
    let script = "echo x >>/shared/tries; test $(wc -l </shared/tries) = 3 || exit 9";
    let spec = json!({
        "initContainers": [container("stubborn", script, shared.clone())],
        "volumes": [scratch("shared")],
    });
    let main = container("main", &format!("wc -l </shared/tries; {IDLE}"), shared);
    let (given, pod) = lab.run(&pod("init-fails", &[main], spec)).await?;
    let init = pod.container("stubborn").context("no init container")?;
    ensure!(
        init.restarts() == 2,
        "restarted {} times, not twice",
        init.restarts()
    );
    ensure!(init.ended() == Some((0, "Completed")), "{:?}", init.ended());
    let main = pod.container("main").context("no main container")?;
    lab.logs(main.id(), &["3"]).await?;
    given.remove().await
}

/// A sidecar is started, and its startup probe passed, before the next container starts; when the
/// pod ends it outlives the others, and the last to start is the first to go.
pub(crate) async fn sidecars_start_first_and_end_last(lab: Arc<Lab>) -> anyhow::Result<()> {
    let directory = scratch_directory("sidecar-order")?;
    let order = directory.join("order");
    let shared = json!({"volumeMounts": [{"name": "host", "mountPath": "/host"}]});
    let ends =
        |name: &str| format!("trap 'echo {name} >>/host/order; exit' TERM; sleep 100000 & wait");
    let side = |name: &str| {
        let mut more = shared.clone();
        more["startupProbe"] = probe(exec("test -e /tmp/up"));
        more["startupProbe"]["failureThreshold"] = 30.into();
        sidecar(
            name,
            &format!("(sleep 1; touch /tmp/up) & {}", ends(name)),
            more,
        )
    };
    let spec = json!({
        "terminationGracePeriodSeconds": 30,
        "initContainers": [side("first"), side("second")],
        "volumes": [host_directory("host", &directory.display().to_string())],
    });
    let main = container("main", &ends("main"), shared.clone());
    let (given, pod) = lab.run(&pod("sidecar-order", &[main], spec)).await?;
    let mut before = 0;
    for name in ["first", "second", "main"] {
        let (started, _) = times(&lab, &pod, name).await?;
        let after = started - before;
        ensure!(
            after >= 1_000_000_000,
            "{name} started {after} ns after its predecessor, which needs 1 s"
        );
        before = started;
        ensure!(
            pod.container(name).is_some_and(|one| one.restarts() == 0),
            "{name} restarted"
        );
    }
    given.remove().await?;
    let order = std::fs::read_to_string(order).context("nobody noted the order")?;
    let order: Vec<&str> = order.lines().collect();
    ensure!(
        order == ["main", "second", "first"],
        "they ended as {order:?}"
    );
    Ok(())
}

/// A sidecar that exits is started again while the others go on.
pub(crate) async fn a_sidecar_is_restarted_alone(lab: Arc<Lab>) -> anyhow::Result<()> {
    let shared = json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]});
    let script =
        format!("test -e /shared/once || {{ touch /shared/once; sleep 4; exit 3; }}; {IDLE}");
    let spec = json!({
        "initContainers": [sidecar("side", &script, shared)],
        "volumes": [scratch("shared")],
    });
    let (given, pod) = lab
        .run(&pod("sidecar-again", &[idle("main", json!({}))], spec))
        .await?;
    let before = pod
        .container("main")
        .context("no main container")?
        .id()
        .to_owned();
    let pod = given.restarted("side", 1).await?;
    let side = pod.container("side").context("no sidecar")?;
    ensure!(
        side.ended_before() == Some((3, "Error")),
        "{:?}",
        side.ended_before()
    );
    let main = pod.container("main").context("no main container")?;
    ensure!(
        main.id() == before && main.restarts() == 0,
        "the main container is another"
    );
    given.remove().await
}

/// A pod has succeeded when its containers have, whatever its sidecars would still do.
pub(crate) async fn a_sidecar_does_not_hold_up_the_end(lab: Arc<Lab>) -> anyhow::Result<()> {
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [sidecar("side", IDLE, json!({}))],
    });
    let main = container("main", "sleep 2; echo done", json!({}));
    let given = lab.give(&pod("sidecar-job", &[main], spec)).await?;
    given.ends().await?;
    lab.midway().await?;
    let pod = given.ends().await?;
    ensure!(pod.phase() == "Succeeded", "the pod has {}", pod.phase());
    let main = pod.container("main").context("no main container")?;
    lab.logs(main.id(), &["done"]).await?;
    let over = |pod: &Pod| {
        pod.container("side")
            .is_some_and(|side| side.ended().is_some())
    };
    given.until("the sidecar has ended", over).await?;
    given.remove().await
}
