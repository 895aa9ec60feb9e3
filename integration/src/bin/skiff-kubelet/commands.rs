//! kubectl's commands that reach into pods.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use skiff_integration::client::BUSYBOX;

use crate::cluster::{KUBECONFIG, kubectl, kubectl_with};
use crate::lab::{LIMIT, Lab};
use crate::manifest::{IDLE, container, host_directory, idle, pod};

/// Output, input, exit codes, and a terminal of the client's size.
pub(crate) async fn exec(lab: Arc<Lab>) -> anyhow::Result<()> {
    let containers = [
        idle("main", json!({})),
        idle("other", json!({"env": [{"name": "ME", "value": "other"}]})),
    ];
    let (given, _) = lab.run(&pod("exec", &containers, json!({}))).await?;
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
    let run = tokio::process::Command::new("script")
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

/// Attach: what the client writes reaches the container, and its answer the client.
pub(crate) async fn attach(lab: Arc<Lab>) -> anyhow::Result<()> {
    let script = "while read line; do echo got $line; done; echo end";
    let main = container("main", script, json!({"stdin": true, "stdinOnce": true}));
    let given = lab
        .give(&pod("attach", &[main], json!({"restartPolicy": "Never"})))
        .await?;
    given.runs().await?;
    let said = kubectl_with(&["attach", "attach", "-i"], "one\ntwo\n").await?;
    ensure!(said.ends_with("got one\ngot two\nend\n"), "{said:?}");
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
    let given = lab.give(&pod("logs", &[main, counter], spec)).await?;
    given.restarted("main", 1).await?;
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
    let (given, _) = lab.run(&pod("forward", &[main], json!({}))).await?;
    let mut client = tokio::process::Command::new("kubectl")
        .args([
            "--kubeconfig",
            KUBECONFIG,
            "port-forward",
            "forward",
            "18443:8080",
        ])
        .kill_on_drop(true)
        .spawn()?;
    let deadline = std::time::Instant::now() + LIMIT;
    while let Err(error) = crate::http::get(18443, "/").await {
        ensure!(std::time::Instant::now() < deadline, "{error:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..20 {
        asked.spawn(crate::http::get(18443, "/"));
    }
    while let Some(answer) = asked.join_next().await {
        let answer = answer??;
        ensure!(answer == "from the pod\n", "{answer:?}");
    }
    client.kill().await?;
    given.remove().await
}

/// Files to a container and back.
pub(crate) async fn copy(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (given, _) = lab
        .run(&pod("copy", &[idle("main", json!({}))], json!({})))
        .await?;
    let content: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
    let (there, back) = ("/var/tmp/copy-there", "/var/tmp/copy-back");
    std::fs::write(there, &content)?;
    kubectl(&["cp", there, "copy:/tmp/file"]).await?;
    kubectl(&["cp", "copy:/tmp/file", back]).await?;
    ensure!(
        std::fs::read_to_string(back)? == content,
        "it came back changed"
    );
    given.remove().await
}

/// An ephemeral container sees the processes of the one that it is to debug, and the pod goes on.
pub(crate) async fn debug(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = container("main", "sleep 161803 & sleep 100000", json!({}));
    let (given, before) = lab.run(&pod("debug", &[main], json!({}))).await?;
    let image = format!("--image={BUSYBOX}");
    let look = "ps | grep '[s]leep 161803'; ls /proc/1/root/bin/busybox; hostname";
    kubectl(&[
        "debug",
        "debug",
        &image,
        "--target=main",
        "-c",
        "look",
        "--profile=general",
        "--",
        "sh",
        "-c",
        look,
    ])
    .await?;
    let ended = |pod: &crate::status::Pod| {
        pod.container("look")
            .is_some_and(|one| one.ended().is_some())
    };
    let pod = given.until("the debugger has ended", ended).await?;
    let log = kubectl(&["logs", "debug", "-c", "look"]).await?;
    ensure!(
        log.contains("sleep 161803"),
        "it does not see the processes: {log:?}"
    );
    ensure!(log.ends_with("debug\n"), "it is not in the pod: {log:?}");
    let same = |pod: &crate::status::Pod| {
        pod.container("main")
            .map(|one| (one.id().to_owned(), one.restarts()))
    };
    ensure!(
        same(&pod) == same(&before),
        "the container under the debugger changed"
    );
    given.remove().await
}

/// A debugger of the node: its namespaces and its files.
pub(crate) async fn debug_the_node(_: Arc<Lab>) -> anyhow::Result<()> {
    let image = format!("--image={BUSYBOX}");
    // What it says before kubectl is attached is in the log only.
    let look = "sleep 5; cat /host/etc/hostname; test -e /host/usr/local/bin/skiffd && ls -d /proc/*/ | wc -l";
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
    let said = kubectl(&arguments).await?;
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
    let mut client = tokio::process::Command::new("kubectl")
        .args([
            "--kubeconfig",
            KUBECONFIG,
            "port-forward",
            "test-grpc",
            "18080:8080",
        ])
        .kill_on_drop(true)
        .spawn()?;
    let deadline = std::time::Instant::now() + LIMIT;
    while let Err(error) = crate::http::get(18080, "/make-not-serving").await {
        ensure!(std::time::Instant::now() < deadline, "{error:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    given
        .until("it is not ready", |pod| !pod.is("Ready"))
        .await?;
    crate::http::get(18080, "/make-serving").await?;
    given
        .until("it is ready again", |pod| pod.is("Ready"))
        .await?;
    client.kill().await?;
    given.remove().await
}
