//! Probes: by exec, HTTP, TCP and gRPC, for readiness, liveness and startup.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::manifest::{IDLE, container, exec, host_directory, pod, probe, scratch};
use crate::status::Pod;

fn ready(name: &str, wanted: bool) -> impl Fn(&Pod) -> bool {
    move |pod| {
        pod.container(name)
            .is_some_and(|one| one.running() && one.ready() == wanted)
    }
}

/// A server of the files below /w on port 8080.
const SERVER: &str = "mkdir /w; echo ok >/w/ok; httpd -p 8080 -h /w";

/// The pod is ready as long as its command says so, and is not restarted when it says no.
pub(crate) async fn readiness_by_exec(lab: Arc<Lab>) -> anyhow::Result<()> {
    follows(&lab, "ready-exec", probe(exec("test -e /w/ok"))).await
}

/// The same by a file that a server has or not.
pub(crate) async fn readiness_by_http(lab: Arc<Lab>) -> anyhow::Result<()> {
    let ask = probe(json!({"httpGet": {"path": "/ok", "port": 8080}}));
    follows(&lab, "ready-http", ask).await
}

async fn follows(lab: &Arc<Lab>, name: &str, probe: Value) -> anyhow::Result<()> {
    let main = container(
        "main",
        &format!("{SERVER}; {IDLE}"),
        json!({"readinessProbe": probe}),
    );
    let (given, pod) = lab.run(&pod(name, &[main], json!({}))).await?;
    let id = pod
        .container("main")
        .context("no main container")?
        .id()
        .to_owned();
    lab.exec(&id, "rm /w/ok").await?;
    given.until("it is not ready", ready("main", false)).await?;
    lab.exec(&id, "touch /w/ok").await?;
    let pod = given
        .until("it is ready again", ready("main", true))
        .await?;
    let main = pod.container("main").context("no main container")?;
    ensure!(main.restarts() == 0 && main.id() == id, "it was restarted");
    given.remove().await
}

/// Ready as long as somebody listens.
pub(crate) async fn readiness_by_tcp(lab: Arc<Lab>) -> anyhow::Result<()> {
    let probe = probe(json!({"tcpSocket": {"port": 8080}}));
    let main = container(
        "main",
        &format!("{SERVER}; {IDLE}"),
        json!({"readinessProbe": probe}),
    );
    let (given, pod) = lab.run(&pod("ready-tcp", &[main], json!({}))).await?;
    let id = pod
        .container("main")
        .context("no main container")?
        .id()
        .to_owned();
    lab.exec(&id, "killall httpd").await?;
    given.until("it is not ready", ready("main", false)).await?;
    lab.exec(&id, "httpd -p 8080 -h /w").await?;
    given
        .until("it is ready again", ready("main", true))
        .await?;
    given.remove().await
}

/// Ready as long as the gRPC health service says SERVING.
pub(crate) async fn readiness_by_grpc(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = container(
        "main",
        "",
        json!({
            "command": ["/agnhost/agnhost", "grpc-health-checking"],
            "readinessProbe": probe(json!({"grpc": {"port": 5000}})),
            "volumeMounts": [{"name": "agnhost", "mountPath": "/agnhost", "readOnly": true}],
        }),
    );
    let spec = json!({"volumes": [host_directory("agnhost", "/usr/local/lib/agnhost")]});
    let (given, pod) = lab.run(&pod("ready-grpc", &[main], spec)).await?;
    let id = pod
        .container("main")
        .context("no main container")?
        .id()
        .to_owned();
    lab.exec(&id, "wget -q -O - http://127.0.0.1:8080/make-not-serving")
        .await?;
    given.until("it is not ready", ready("main", false)).await?;
    lab.exec(&id, "wget -q -O - http://127.0.0.1:8080/make-serving")
        .await?;
    given
        .until("it is ready again", ready("main", true))
        .await?;
    given.remove().await
}

/// A container that is no longer alive is replaced, once.
pub(crate) async fn liveness_by_exec(lab: Arc<Lab>) -> anyhow::Result<()> {
    let ask = exec("test -e /w/ok");
    dies_once(&lab, "live-exec", ask, SERVER, "rm /w/ok").await
}

/// The same, asked over HTTP.
pub(crate) async fn liveness_by_http(lab: Arc<Lab>) -> anyhow::Result<()> {
    let ask = json!({"httpGet": {"path": "/ok", "port": 8080}});
    dies_once(&lab, "live-http", ask, SERVER, "rm /w/ok").await
}

/// Alive as long as somebody listens.
pub(crate) async fn liveness_by_tcp(lab: Arc<Lab>) -> anyhow::Result<()> {
    let ask = json!({"tcpSocket": {"port": 8080}});
    dies_once(&lab, "live-tcp", ask, SERVER, "killall httpd").await
}

/// Alive as long as the gRPC health service says SERVING.
pub(crate) async fn liveness_by_grpc(lab: Arc<Lab>) -> anyhow::Result<()> {
    let server = "/agnhost/agnhost grpc-health-checking &";
    let ill = "wget -q -O - http://127.0.0.1:8080/make-not-serving";
    dies_once(
        &lab,
        "live-grpc",
        json!({"grpc": {"port": 5000}}),
        server,
        ill,
    )
    .await
}

/// A container that starts a server, and makes it `ill` after some seconds in its first instance.
async fn dies_once(
    lab: &Arc<Lab>,
    name: &str,
    ask: Value,
    server: &str,
    ill: &str,
) -> anyhow::Result<()> {
    let mut probe = probe(ask);
    // the first questions may come before the server runs
    probe["failureThreshold"] = 5.into();
    let script =
        format!("{server}\ntest -e /shared/once || (touch /shared/once; sleep 4; {ill})\n{IDLE}");
    let main = container(
        "main",
        &script,
        json!({
            "livenessProbe": probe,
            "volumeMounts": [
                {"name": "shared", "mountPath": "/shared"},
                {"name": "agnhost", "mountPath": "/agnhost", "readOnly": true},
            ],
        }),
    );
    let spec = json!({"volumes": [
        scratch("shared"),
        host_directory("agnhost", "/usr/local/lib/agnhost"),
    ]});
    let given = lab.give(&pod(name, &[main], spec)).await?;
    let pod = given.restarted("main", 1).await?;
    let main = pod.container("main").context("no main container")?;
    let before = main
        .ended_before()
        .context("nothing is told of the first instance")?;
    // it gets a signal, or what follows on it where the shell is late to expect it
    ensure!(
        [(0, "Completed"), (143, "Error"), (137, "Error")].contains(&before),
        "it ended as {before:?}"
    );
    lab.midway().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    given.restarted("main", 1).await?;
    given.until("it is ready", ready("main", true)).await?;
    given.remove().await
}

/// No other probe asks before the startup probe has passed.
pub(crate) async fn startup_comes_first(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut startup = probe(exec("test -e /tmp/up"));
    startup["failureThreshold"] = 60.into();
    let main = container(
        "main",
        &format!("sleep 4; touch /tmp/up; {IDLE}"),
        json!({
            "startupProbe": startup,
            "livenessProbe": probe(exec("test -e /tmp/up")),
        }),
    );
    let given = lab.give(&pod("startup", &[main], json!({}))).await?;
    let waits = |pod: &Pod| {
        pod.container("main")
            .is_some_and(|one| one.running() && !one.started())
    };
    given.until("it runs and has not started up", waits).await?;
    let started = |pod: &Pod| pod.container("main").is_some_and(|one| one.started());
    given.until("it has started up", started).await?;
    lab.midway().await?;
    let pod = given
        .until("it is known to have started up", started)
        .await?;
    ensure!(
        pod.container("main").is_some_and(|one| one.restarts() == 0),
        "it was restarted"
    );
    given.remove().await
}

/// Startup probes over HTTP, TCP and gRPC, whose servers come when they are told to.
pub(crate) async fn startup_by_every_protocol(lab: Arc<Lab>) -> anyhow::Result<()> {
    let server = |name: &str, serve: &str, ask: Value| {
        let mut startup = probe(ask);
        startup["failureThreshold"] = 60.into();
        container(
            name,
            &format!(
                "mkdir /w; echo ok >/w/ok; until test -e /tmp/go; do sleep 0.2; done; {serve}\n{IDLE}"
            ),
            json!({
                "startupProbe": startup,
                "volumeMounts": [{"name": "agnhost", "mountPath": "/agnhost", "readOnly": true}],
            }),
        )
    };
    let containers = [
        server(
            "http",
            "httpd -p 8081 -h /w",
            json!({"httpGet": {"path": "/ok", "port": 8081}}),
        ),
        server(
            "tcp",
            "httpd -p 8082 -h /w",
            json!({"tcpSocket": {"port": 8082}}),
        ),
        server(
            "grpc",
            "/agnhost/agnhost grpc-health-checking &",
            json!({"grpc": {"port": 5000}}),
        ),
    ];
    let spec = json!({"volumes": [host_directory("agnhost", "/usr/local/lib/agnhost")]});
    let given = lab.give(&pod("startup-all", &containers, spec)).await?;
    let waits = |pod: &Pod| {
        let all = pod.containers();
        all.filter(|one| one.running() && !one.started()).count() == 3
    };
    let pod = given
        .until("all run and none has started up", waits)
        .await?;
    for container in pod.containers() {
        lab.exec(container.id(), "touch /tmp/go").await?;
    }
    let started = |pod: &Pod| pod.containers().all(|one| one.started());
    given.until("all have started up", started).await?;
    lab.midway().await?;
    let pod = given.until("all are known to", started).await?;
    let restarts = pod.containers().map(|one| one.restarts()).sum::<u64>();
    ensure!(restarts == 0, "{restarts} restarts");
    given.remove().await
}

/// A command that takes too long is a no, and does not stay behind.
pub(crate) async fn a_probe_that_takes_too_long(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut slow = probe(exec("test -e /tmp/fast || sleep 314159"));
    slow["timeoutSeconds"] = 1.into();
    let main = container("main", IDLE, json!({"readinessProbe": slow}));
    let given = lab.give(&pod("slow-probe", &[main], json!({}))).await?;
    let runs = |pod: &Pod| pod.container("main").is_some_and(|one| one.running());
    let pod = given.until("it runs", runs).await?;
    lab.midway().await?;
    let id = pod
        .container("main")
        .context("no main container")?
        .id()
        .to_owned();
    tokio::time::sleep(Duration::from_secs(6)).await;
    given.until("it is not ready", ready("main", false)).await?;
    lab.exec(&id, "touch /tmp/fast").await?;
    given.until("it is ready", ready("main", true)).await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while lab
        .exec(&id, "ps | grep -c '[s]leep 314159' || true")
        .await?
        != "0"
    {
        ensure!(Instant::now() < deadline, "commands of the probe are left");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    given.remove().await
}
