//! How containers begin and end: hooks, exit codes, restarts, the end by memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::manifest::{IDLE, container, exec, host_directory, idle, pod, restless};
use crate::node::scratch_directory;
use crate::status::Pod;

/// postStart runs beside the container's own process; preStop runs to its end before SIGTERM.
pub(crate) async fn hooks_run_at_both_ends(lab: Arc<Lab>) -> anyhow::Result<()> {
    let directory = scratch_directory("hooks")?;
    let script =
        "trap 'echo term >>/host/order; exit' TERM; echo main >>/host/order; sleep 100000 & wait";
    let main = container(
        "main",
        script,
        json!({
            "lifecycle": {
                "postStart": exec("until test -e /host/order; do sleep 0.1; done; echo post >>/host/order"),
                "preStop": exec("sleep 1; echo pre >>/host/order"),
            },
            "volumeMounts": [{"name": "host", "mountPath": "/host"}],
        }),
    );
    let spec = json!({
        "terminationGracePeriodSeconds": 30,
        "volumes": [host_directory("host", &directory.display().to_string())],
    });
    let (given, pod) = lab.run(&pod("hooks", &[main], spec)).await?;
    ensure!(
        pod.container("main").is_some_and(|one| one.restarts() == 0),
        "it was restarted"
    );
    given.remove().await?;
    let order =
        std::fs::read_to_string(directory.join("order")).context("nobody noted the order")?;
    let order: Vec<&str> = order.lines().collect();
    ensure!(
        order == ["main", "post", "pre", "term"],
        "the order was {order:?}"
    );
    Ok(())
}

/// preStop may be a request, to the pod's own address.
pub(crate) async fn a_hook_by_http(lab: Arc<Lab>) -> anyhow::Result<()> {
    let directory = scratch_directory("hook-http")?;
    // a CGI program notes that it was asked
    let script = "mkdir -p /w/cgi-bin; printf '#!/bin/sh\\necho asked >>/host/asked; printf \"Content-Type: text/plain\\r\\n\\r\\nok\\n\"\\n' \
         >/w/cgi-bin/stop; chmod +x /w/cgi-bin/stop; httpd -p 8080 -h /w; trap exit TERM; sleep 100000 & wait";
    let main = container(
        "main",
        script,
        json!({
            "lifecycle": {"preStop": {"httpGet": {"path": "/cgi-bin/stop", "port": 8080}}},
            "volumeMounts": [{"name": "host", "mountPath": "/host"}],
        }),
    );
    let spec = json!({
        "terminationGracePeriodSeconds": 20,
        "volumes": [host_directory("host", &directory.display().to_string())],
    });
    let (given, pod) = lab.run(&pod("hook-http", &[main], spec)).await?;
    let id = pod
        .container("main")
        .context("no main container")?
        .id()
        .to_owned();
    lab.exec(&id, "until wget -q -O /dev/null http://127.0.0.1:8080/cgi-bin/stop; do sleep 0.1; done; rm /host/asked").await?;
    given.remove().await?;
    let asked = std::fs::read_to_string(directory.join("asked")).context("nobody asked")?;
    ensure!(asked == "asked\n", "asked: {asked:?}");
    Ok(())
}

/// A container whose postStart fails is killed and started again.
pub(crate) async fn a_hook_that_fails(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = container(
        "main",
        IDLE,
        json!({"lifecycle": {"postStart": exec("exit 5")}}),
    );
    let given = lab
        .give(&restless(pod("hook-fails", &[main], json!({}))))
        .await?;
    let again = |pod: &Pod| pod.container("main").is_some_and(|one| one.restarts() >= 1);
    given.until("it was started again", again).await?;
    lab.midway().await?;
    given.remove().await
}

/// Exit codes and reasons, of pods that are not restarted.
pub(crate) async fn exit_codes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let table: [(&str, Value, &str, (i64, &str)); 5] = [
        ("success", json!(["true"]), "Succeeded", (0, "Completed")),
        (
            "failure",
            json!(["sh", "-c", "exit 42"]),
            "Failed",
            (42, "Error"),
        ),
        (
            "signal",
            json!(["sh", "-c", "sleep 0.2 & kill -SEGV $!; wait $!; exit $?"]),
            "Failed",
            (139, "Error"),
        ),
        (
            "no-program",
            json!(["/no/such/program"]),
            "Failed",
            (127, "StartError"),
        ),
        (
            "no-permission",
            json!(["/etc/passwd"]),
            "Failed",
            (126, "StartError"),
        ),
    ];
    let mut pods = Vec::new();
    for (name, command, phase, end) in table {
        let main = idle("main", json!({"command": command}));
        let given = lab
            .give(&pod(
                &format!("exit-{name}"),
                &[main],
                json!({"restartPolicy": "Never"}),
            ))
            .await?;
        pods.push((given, phase, end));
    }
    for (given, ..) in &pods {
        given.ends().await?;
    }
    lab.midway().await?;
    for (given, phase, end) in pods {
        let pod = given.ends().await?;
        let main = pod.container("main").context("no main container")?;
        ensure!(
            main.ended() == Some(end),
            "{}: {:?}, not {end:?}",
            given.name,
            main.ended()
        );
        ensure!(
            pod.phase() == phase,
            "{}: the pod has {}",
            given.name,
            pod.phase()
        );
        given.remove().await?;
    }
    Ok(())
}

/// A container that ends again and again is waited with, its count rises, and the log of the
/// instance before is kept.
pub(crate) async fn crash_loop(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = container("main", "echo instance; exit 7", json!({}));
    let given = lab
        .give(&restless(pod("crash-loop", &[main], json!({}))))
        .await?;
    let waits = |pod: &Pod| {
        pod.container("main")
            .is_some_and(|one| one.waits_for() == "CrashLoopBackOff" && one.restarts() >= 2)
    };
    let pod = given
        .until("it is in CrashLoopBackOff after two restarts", waits)
        .await?;
    let before = pod.container("main").map_or(0, |main| main.restarts());
    lab.midway().await?;
    let goes_on = |pod: &Pod| {
        let main = pod.container("main");
        main.is_some_and(|one| one.ended_before().is_some() && one.restarts() > before)
    };
    let pod = given.until("it is started again", goes_on).await?;
    let main = pod.container("main").context("no main container")?;
    ensure!(
        main.ended_before() == Some((7, "Error")),
        "{:?}",
        main.ended_before()
    );
    let log = lab.status(main.id()).await?.log_path;
    let number: u64 = log
        .rsplit('/')
        .next()
        .and_then(|file| file.strip_suffix(".log")?.parse().ok())
        .with_context(|| format!("a log called {log}"))?;
    ensure!(
        number >= main.restarts(),
        "instance {} logs to {log}",
        main.restarts()
    );
    lab.logs(main.id(), &["instance"]).await?;
    given.remove().await
}

/// The end by memory has its own reason, and only the guilty container is restarted.
pub(crate) async fn out_of_memory(lab: Arc<Lab>) -> anyhow::Result<()> {
    let hungry = container(
        "hungry",
        "sleep 1; tail /dev/zero",
        json!({
            "resources": {"requests": {"memory": "16Mi"}, "limits": {"memory": "16Mi"}},
        }),
    );
    let given = lab
        .give(&restless(pod(
            "oom",
            &[hungry, idle("calm", json!({}))],
            json!({}),
        )))
        .await?;
    let killed = |pod: &Pod| {
        let end = |one: crate::status::Container<'_>| {
            one.ended().or(one.ended_before()) == Some((137, "OOMKilled"))
        };
        pod.container("hungry").is_some_and(end)
    };
    given.until("it ends as OOMKilled", killed).await?;
    lab.midway().await?;
    let pod = given.until("it ended as OOMKilled", killed).await?;
    let calm = pod.container("calm").context("no other container")?;
    ensure!(
        calm.running() && calm.restarts() == 0,
        "the other container ended, too"
    );
    given.remove().await
}

/// A container that does not mind SIGTERM gets its grace period, and no more.
pub(crate) async fn the_grace_period(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = container(
        "main",
        "trap '' TERM; while true; do sleep 1; done",
        json!({}),
    );
    let spec = json!({"terminationGracePeriodSeconds": 5});
    let (given, _) = lab.run(&pod("grace", &[main], spec)).await?;
    let began = Instant::now();
    given.remove().await?;
    let took = began.elapsed();
    ensure!(
        took >= Duration::from_secs(5),
        "it was killed after {took:?}"
    );
    ensure!(took < Duration::from_secs(60), "it lived on for {took:?}");
    Ok(())
}

/// What a container writes to its termination log is told with its end; without one, the end of
/// its log where that is asked for.
pub(crate) async fn last_words(lab: Arc<Lab>) -> anyhow::Result<()> {
    let spec = json!({"restartPolicy": "Never"});
    let writes = container(
        "main",
        "echo -n from the file >/dev/termination-log; exit 1",
        json!({}),
    );
    let says = container(
        "main",
        "echo from the log; exit 1",
        json!({
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }),
    );
    for (name, container, words) in [
        ("words-file", writes, "from the file"),
        ("words-log", says, "from the log\n"),
    ] {
        let given = lab.give(&pod(name, &[container], spec.clone())).await?;
        given.ends().await?;
        lab.midway().await?;
        let pod = given.ends().await?;
        let message = &pod.0["status"]["containerStatuses"][0]["state"]["terminated"]["message"];
        ensure!(message == words, "{name}: {message}, not {words:?}");
        given.remove().await?;
    }
    Ok(())
}

/// An image that is not there is told as such, and the pod's other containers run.
pub(crate) async fn an_image_that_is_not_there(lab: Arc<Lab>) -> anyhow::Result<()> {
    let absent = idle("absent", json!({"image": "registry.lab/no/such/image:1"}));
    let never = idle(
        "never",
        json!({"image": "registry.lab/never/pulled:1", "imagePullPolicy": "Never"}),
    );
    let given = lab
        .give(&pod(
            "no-image",
            &[absent, never, idle("main", json!({}))],
            json!({}),
        ))
        .await?;
    let waits = |pod: &Pod| {
        let of = |name| {
            pod.container(name)
                .map_or("", |one| one.waits_for())
                .to_owned()
        };
        ["ErrImagePull", "ImagePullBackOff"].contains(&&*of("absent"))
            && of("never") == "ErrImageNeverPull"
            && pod.container("main").is_some_and(|one| one.running())
    };
    given.until("the missing images are told", waits).await?;
    lab.midway().await?;
    given
        .until("the missing images are still told", waits)
        .await?;
    given.remove().await
}
