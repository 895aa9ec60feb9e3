//! kubectl's commands that reach into pods.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use skiff_integration::client::BUSYBOX;
use tokio::process::{Child, Command};

use crate::cluster::{KUBECONFIG, kubectl, kubectl_with};
use crate::lab::{LIMIT, Lab};
use crate::manifest::{IDLE, container, host_directory, idle, pod, restless};
use crate::session::Session;
use crate::status::Pod;

/// Output, input, exit codes, and a terminal of the client's size; and before all that a session
/// that is under way in the middle.
pub(crate) async fn exec(lab: Arc<Lab>) -> anyhow::Result<()> {
    let containers = [
        idle("main", json!({})),
        idle("other", json!({"env": [{"name": "ME", "value": "other"}]})),
    ];
    let given = lab.give(&pod("exec", &containers, json!({}))).await?;
    given.runs().await?;
    let mut session = Session::open(&["exec", "exec", "-c", "main", "-i", "--", "cat"])?;
    session.ask("before", "before").await?;
    session.pass(&lab).await?;
    let other = kubectl(&["exec", "exec", "-c", "other", "--", "sh", "-c", "echo $ME"]).await?;
    ensure!(other == "other\n", "{other:?}");
    let sorted = kubectl_with(
        &["exec", "exec", "-c", "main", "-i", "--", "sort"],
        "b\na\n",
    )
    .await?;
    ensure!(sorted == "a\nb\n", "{sorted:?}");
    let code = kubectl(&["exec", "exec", "-c", "main", "--", "sh", "-c", "exit 42"]).await;
    let told = code.err().context("exit code 42 is a success")?.to_string();
    ensure!(told.contains("exit status: 42"), "{told}");
    let command = format!(
        "stty rows 33 cols 99; kubectl --kubeconfig {KUBECONFIG} exec exec -c main -it -- sh -c 'sleep 1; stty size'"
    );
    let size = terminal(&command).await?;
    ensure!(size.contains("33 99"), "a terminal of {size:?}");
    given.remove().await
}

/// What a command prints that has a terminal.
async fn terminal(command: &str) -> anyhow::Result<String> {
    let run = Command::new("script")
        .args(["-qefc", command, "/dev/null"])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), run).await??;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first example of everybody: a container that prints and is gone, and nothing of it is lost.
pub(crate) async fn run_and_remove(_: Arc<Lab>) -> anyhow::Result<()> {
    let image = format!("--image={BUSYBOX}");
    let arguments = [
        "run",
        "hello-world",
        "-i",
        "--rm",
        &image,
        "--restart=Never",
        "--",
        "date",
        "+it is %Y",
    ];
    let said = kubectl(&arguments).await?;
    ensure!(said.contains("it is 20"), "{said:?}");
    ensure!(said.contains("deleted"), "{said:?}");
    Ok(())
}

/// Attach: what the client writes reaches the container, and its answer the client. The input of a
/// container that has more than one client in its life stays open from one to the next.
pub(crate) async fn attach(lab: Arc<Lab>) -> anyhow::Result<()> {
    let script = "while read line; do echo got $line; done; echo end";
    let once = container("once", script, json!({"stdin": true, "stdinOnce": true}));
    let script = "while read line; do echo got $line; test $line != last || exit 0; done";
    let often = container("often", script, json!({"stdin": true}));
    let given = lab
        .give(&pod(
            "attach",
            &[once, often],
            json!({"restartPolicy": "Never"}),
        ))
        .await?;
    given.runs().await?;
    let mut session = Session::open(&["attach", "attach", "-c", "often", "-i"])?;
    session.ask("first", "got first").await?;
    session.pass(&lab).await?;
    let said = kubectl_with(&["attach", "attach", "-c", "once", "-i"], "one\ntwo\n").await?;
    ensure!(said.ends_with("got one\ngot two\nend\n"), "{said:?}");
    let said = kubectl_with(&["attach", "attach", "-c", "often", "-i"], "last\n").await?;
    ensure!(said.ends_with("got last\n"), "{said:?}");
    let pod = given.ends().await?;
    ensure!(pod.phase() == "Succeeded", "{}", pod.phase());
    given.remove().await
}

/// Logs of both instances, of all containers, and as they are written.
pub(crate) async fn logs(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = container(
        "main",
        &format!(
            "echo instance $(date +%s%N); test -e /d/x || {{ touch /d/x; sleep 1; exit 1; }}; {IDLE}"
        ),
        json!({
            "volumeMounts": [{"name": "d", "mountPath": "/d"}],
        }),
    );
    let counter = container(
        "counter",
        "i=0; while [ $i -lt 5 ]; do i=$((i+1)); echo $i; sleep 0.5; done",
        json!({}),
    );
    let spec = json!({"volumes": [crate::manifest::scratch("d")]});
    let given = lab
        .give(&restless(pod("logs", &[main, counter], spec)))
        .await?;
    let of = |pod: Pod| pod.container("main").map(|one| one.id().to_owned());
    let again = of(given.restarted("main", 1).await?);
    lab.midway().await?;
    ensure!(
        of(given.restarted("main", 1).await?) == again,
        "another instance"
    );
    let now = kubectl(&["logs", "logs", "-c", "main"]).await?;
    let before = kubectl(&["logs", "logs", "-c", "main", "--previous"]).await?;
    ensure!(
        now.starts_with("instance") && before.starts_with("instance") && now != before,
        "{now:?} {before:?}"
    );
    let followed = kubectl(&["logs", "logs", "-c", "counter", "-f"]).await?;
    ensure!(followed == "1\n2\n3\n4\n5\n", "{followed:?}");
    given.remove().await
}

/// A port of the pod on the client's side, for many connections.
pub(crate) async fn port_forward(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = container(
        "main",
        &format!(
            "mkdir /w; echo from the pod >/w/index.html; httpd -p 127.0.0.1:8080 -h /w; {IDLE}"
        ),
        json!({}),
    );
    let given = lab.give(&pod("forward", &[main], json!({}))).await?;
    given.runs().await?;
    let client = forward("forward", 18442, 8080, "/").await?;
    lab.midway().await?;
    drop(client);
    let client = forward("forward", 18443, 8080, "/").await?;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..20 {
        asked.spawn(crate::http::get(18443, "/"));
    }
    while let Some(answer) = asked.join_next().await {
        let answer = answer??;
        ensure!(answer == "from the pod\n", "{answer:?}");
    }
    drop(client);
    given.remove().await
}

/// A client that forwards a port of its own to one of the pod, until it is dropped. Returns once
/// `path` is answered.
async fn forward(pod: &str, from: u16, to: u16, path: &str) -> anyhow::Result<Child> {
    let ports = format!("{from}:{to}");
    let client = Command::new("kubectl")
        .args(["--kubeconfig", KUBECONFIG, "port-forward", pod, &ports])
        .kill_on_drop(true)
        .spawn()?;
    let deadline = std::time::Instant::now() + LIMIT;
    while let Err(error) = crate::http::get(from, path).await {
        ensure!(std::time::Instant::now() < deadline, "{error:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(client)
}

/// Files to a container and back.
pub(crate) async fn copy(lab: Arc<Lab>) -> anyhow::Result<()> {
    let given = lab
        .give(&pod("copy", &[idle("main", json!({}))], json!({})))
        .await?;
    given.runs().await?;
    let content: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
    let (there, back) = ("/var/tmp/copy-there", "/var/tmp/copy-back");
    std::fs::write(there, &content)?;
    kubectl(&["cp", there, "copy:/tmp/file"]).await?;
    lab.midway().await?;
    kubectl(&["cp", "copy:/tmp/file", back]).await?;
    ensure!(
        std::fs::read_to_string(back)? == content,
        "it came back changed"
    );
    given.remove().await
}

/// Ephemeral containers: one sees the processes of the one that it is to debug and ends, another
/// goes on; and the pod goes on under both.
pub(crate) async fn debug(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = container("main", "sleep 161803 & sleep 100000", json!({}));
    let given = lab.give(&pod("debug", &[main], json!({}))).await?;
    let before = given.runs().await?;
    let look = "ps | grep '[s]leep 161803'; ls /proc/1/root/bin/busybox; hostname";
    debugger("look", look).await?;
    debugger("stay", IDLE).await?;
    let both = |pod: &Pod| {
        pod.container("look")
            .is_some_and(|one| one.ended().is_some())
            && pod.container("stay").is_some_and(|one| one.running())
    };
    let what = "one debugger has ended, one runs";
    let debugged = given.until(what, both).await?;
    lab.midway().await?;
    let pod = given.until(what, both).await?;
    let log = kubectl(&["logs", "debug", "-c", "look"]).await?;
    ensure!(
        log.contains("sleep 161803"),
        "it does not see the processes: {log:?}"
    );
    ensure!(log.ends_with("debug\n"), "it is not in the pod: {log:?}");
    let same = |pod: &Pod, name: &str| {
        let one = pod.container(name)?;
        Some((one.id().to_owned(), one.restarts()))
    };
    ensure!(
        same(&pod, "main") == same(&before, "main"),
        "the container under the debuggers changed"
    );
    for name in ["look", "stay"] {
        ensure!(
            same(&pod, name) == same(&debugged, name),
            "{name} was started again"
        );
    }
    let stay = ["exec", "debug", "-c", "stay", "--", "sh", "-c", look];
    let said = kubectl(&stay).await?;
    ensure!(said.contains("sleep 161803"), "{said:?}");
    given.remove().await
}

/// Puts a container of this name that runs a script beside `main` of the pod `debug`.
async fn debugger(name: &str, script: &str) -> anyhow::Result<()> {
    let image = format!("--image={BUSYBOX}");
    kubectl(&[
        "debug",
        "debug",
        &image,
        "--target=main",
        "-c",
        name,
        "--profile=general",
        "--",
        "sh",
        "-c",
        script,
    ])
    .await
    .map(drop)
}

/// A debugger of the node: its namespaces and its files.
pub(crate) async fn debug_the_node(_: Arc<Lab>) -> anyhow::Result<()> {
    let image = format!("--image={BUSYBOX}");
    // What it said before kubectl is attached would be in the log only.
    let look = "read word; cat /host/etc/hostname; test -e /host/usr/local/bin/skiffd && ls -d /proc/*/ | wc -l";
    let arguments = [
        "debug",
        "node/node",
        &image,
        "--profile=general",
        "-i",
        "--",
        "sh",
        "-c",
        look,
    ];
    let said = kubectl_with(&arguments, "go\n").await?;
    ensure!(said.contains("node\n"), "{said:?}");
    let list = kubectl(&["get", "pods", "-o", "name"]).await?;
    for pod in list
        .lines()
        .filter(|pod| pod.starts_with("pod/node-debugger"))
    {
        kubectl(&["delete", pod, "--wait=false"]).await?;
    }
    Ok(())
}

/// The health checks of the gRPC example, switched through a forwarded port.
pub(crate) async fn the_grpc_example(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = container(
        "main",
        "",
        json!({
            "command": ["/agnhost/agnhost", "grpc-health-checking"],
            "readinessProbe": {"grpc": {"port": 5000}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 60},
            "volumeMounts": [{"name": "agnhost", "mountPath": "/agnhost", "readOnly": true}],
        }),
    );
    let spec = json!({"volumes": [host_directory("agnhost", "/usr/local/lib/agnhost")]});
    let (given, _) = lab.run(&pod("test-grpc", &[main], spec)).await?;
    let client = forward("test-grpc", 18080, 8080, "/make-not-serving").await?;
    given
        .until("it is not ready", |pod| !pod.is("Ready"))
        .await?;
    crate::http::get(18080, "/make-serving").await?;
    given
        .until("it is ready again", |pod| pod.is("Ready"))
        .await?;
    drop(client);
    given.remove().await
}
