//! What controllers make of pods, and volumes that the API server fills.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use skiff_integration::client::BUSYBOX;

use crate::cluster::{create, kubectl, kubectl_until};
use crate::lab::{LIMIT, Lab};
use crate::manifest::{IDLE, container, idle, merge, pod};

const CORE: &str = "/api/v1/namespaces/default";
const APPS: &str = "/apis/apps/v1/namespaces/default";

/// The middle of what a controller made of pods with these labels and one container each: they are
/// the same afterwards, each with the same instance, which has or has not ended as before.
pub(crate) async fn middle(lab: &Lab, labels: &str) -> anyhow::Result<()> {
    let of = "{.metadata.uid} {.status.containerStatuses[0].containerID} \
        {.status.containerStatuses[0].restartCount} \
        {.status.containerStatuses[0].state.terminated.exitCode}";
    let each = format!("jsonpath={{range .items[*]}}{of}{{\"\\n\"}}{{end}}");
    let ask = ["get", "pods", "-l", labels, "-o", &each];
    let all_started = |said: &str| !said.is_empty() && said.lines().all(|one| one.contains("://"));
    let before = kubectl_until(&ask, all_started).await?;
    lab.midway().await?;
    let after = kubectl(&ask).await?;
    ensure!(before == after, "{before} has become {after}");
    Ok(())
}

/// Deletes what a controller made pods of. Returns when the pods are gone.
pub(crate) async fn delete(kind: &str, name: &str) -> anyhow::Result<()> {
    kubectl(&["delete", kind, name, "--cascade=foreground"])
        .await
        .map(drop)
}

/// A projected volume of everything there is, and the keys of a Secret as variables.
pub(crate) async fn projected_volumes(lab: Arc<Lab>) -> anyhow::Result<()> {
    create(
        &format!("{CORE}/configmaps"),
        &json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
            "data": {"colour": "blue"},
        }),
    )
    .await?;
    create(
        &format!("{CORE}/secrets"),
        &json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"},
            "stringData": {"word": "sesame"},
        }),
    )
    .await?;
    let main = idle(
        "main",
        json!({
            "env": [{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "word"}}}],
            "volumeMounts": [{"name": "all", "mountPath": "/all", "readOnly": true}],
        }),
    );
    let spec = json!({"volumes": [{"name": "all", "projected": {"sources": [
        {"configMap": {"name": "settings"}},
        {"secret": {"name": "hidden", "items": [{"key": "word", "path": "deep/word"}]}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600, "audience": "lab"}},
    ]}}]});
    let (given, pod) = lab.run(&pod("all-projected", &[main], spec)).await?;
    let id = pod
        .container("main")
        .context("no main container")?
        .id()
        .to_owned();
    let script = "cat /all/colour; echo; cat /all/deep/word; echo; cat /all/name; echo; echo $WORD; \
        tr '.' '\\n' </all/token | wc -l; touch /all/x 2>/dev/null || echo refused";
    let said = lab.exec(&id, script).await?;
    ensure!(
        said == "blue\nsesame\nall-projected\nsesame\n2\nrefused",
        "{said:?}"
    );
    // a changed ConfigMap reaches the running container
    kubectl(&[
        "patch",
        "configmap",
        "settings",
        "--patch",
        r#"{"data": {"colour": "green"}}"#,
    ])
    .await?;
    let deadline = Instant::now() + LIMIT;
    while lab.exec(&id, "cat /all/colour").await? != "green" {
        ensure!(Instant::now() < deadline, "the change did not arrive");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    given.remove().await
}

/// The account's token is where every program looks for it.
pub(crate) async fn the_accounts_token(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = idle("main", json!({}));
    let (given, pod) = lab
        .run(&pod(
            "account",
            &[main],
            json!({"automountServiceAccountToken": true}),
        ))
        .await?;
    let id = pod.container("main").context("no main container")?.id();
    let said = lab
        .exec(
            id,
            "ls /var/run/secrets/kubernetes.io/serviceaccount | xargs",
        )
        .await?;
    ensure!(said == "ca.crt namespace token", "{said:?}");
    given.remove().await
}

/// A Deployment is rolled over to another version without a moment without a pod.
pub(crate) async fn a_rolling_update(lab: Arc<Lab>) -> anyhow::Result<()> {
    let labels = json!({"app": "rolling"});
    let mut template = pod(
        "rolling",
        &[idle(
            "main",
            json!({"env": [{"name": "VERSION", "value": "1"}]}),
        )],
        json!({}),
    );
    merge(&mut template["metadata"], &json!({"labels": labels}));
    create(
        &format!("{APPS}/deployments"),
        &json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "rolling"},
            "spec": {
                "replicas": 3, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": template["spec"]},
            },
        }),
    )
    .await?;
    kubectl(&["rollout", "status", "deployment/rolling", "--timeout=240s"]).await?;
    middle(&lab, "app=rolling").await?;
    kubectl(&["set", "env", "deployment/rolling", "VERSION=2"]).await?;
    kubectl(&["rollout", "status", "deployment/rolling", "--timeout=240s"]).await?;
    let versions = kubectl(&[
        "get", "pods", "-l", "app=rolling", "--field-selector=status.phase=Running", "-o",
        "jsonpath={range .items[*]}{.metadata.deletionTimestamp}{.spec.containers[0].env[0].value}{\" \"}{end}",
    ])
    .await?;
    let now: Vec<&str> = versions
        .split_whitespace()
        .filter(|one| one.len() == 1)
        .collect();
    ensure!(now == ["2", "2", "2"], "{versions:?}");
    delete("deployment", "rolling").await
}

/// A Job with an index: pods that fail are replaced until their index succeeds, by their exit code.
pub(crate) async fn an_indexed_job(lab: Arc<Lab>) -> anyhow::Result<()> {
    let script = "test $JOB_COMPLETION_INDEX != 1 || exit 42; echo index $JOB_COMPLETION_INDEX";
    let job = |name: &str| {
        let main = container("main", script, json!({}));
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
            "spec": {
                "completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 0,
                "podFailurePolicy": {"rules": [
                    {"action": "FailIndex", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
                ]},
                "template": {"spec": pod(name, &[main], json!({"restartPolicy": "Never"}))["spec"]},
            },
        })
    };
    create("/apis/batch/v1/namespaces/default/jobs", &job("indexed")).await?;
    kubectl(&[
        "wait",
        "job/indexed",
        "--for=condition=Failed",
        "--timeout=240s",
    ])
    .await?;
    middle(&lab, "job-name=indexed").await?;
    let text = kubectl(&["get", "job", "indexed", "-o", "json"]).await?;
    let status = serde_json::from_str::<Value>(&text)?["status"].clone();
    ensure!(
        status["completedIndexes"] == "0,2" && status["failedIndexes"] == "1",
        "{status}"
    );
    delete("job", "indexed").await
}

/// A DaemonSet has its pod on the node, with a directory of the node's.
pub(crate) async fn a_daemon_set(lab: Arc<Lab>) -> anyhow::Result<()> {
    let labels = json!({"app": "agent"});
    let mount = json!({"volumeMounts": [{"name": "resources", "mountPath": "/pod-resources"}]});
    let script = format!("ls /pod-resources; {IDLE}");
    let spec = json!({"volumes": [{"name": "resources", "hostPath": {"path": "/var/lib/kubelet/pod-resources"}}]});
    create(
        &format!("{APPS}/daemonsets"),
        &json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"},
            "spec": {"selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": pod("agent", &[container("main", &script, mount)], spec)["spec"],
            }},
        }),
    )
    .await?;
    kubectl(&["rollout", "status", "daemonset/agent", "--timeout=240s"]).await?;
    middle(&lab, "app=agent").await?;
    let deadline = Instant::now() + LIMIT;
    loop {
        match kubectl(&["logs", "daemonset/agent"]).await {
            Ok(said) if said == "kubelet.sock\n" => break,
            said => ensure!(Instant::now() < deadline, "{said:?}"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    delete("daemonset", "agent").await
}

/// The logging example: an application that writes files, and sidecars that stream them.
pub(crate) async fn streaming_sidecars(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mount = json!({"volumeMounts": [{"name": "varlog", "mountPath": "/var/log"}]});
    let count = container(
        "count",
        "i=0; while true; do echo \"$i: one\" >>/var/log/1.log; \
        echo \"two $i\" >>/var/log/2.log; i=$((i+1)); sleep 1; done",
        mount.clone(),
    );
    let tail = |name: &str, file: &str| {
        container(
            name,
            &format!("tail -n+1 -F /var/log/{file}"),
            mount.clone(),
        )
    };
    let spec = json!({"volumes": [crate::manifest::scratch("varlog")]});
    let containers = [
        count,
        tail("count-log-1", "1.log"),
        tail("count-log-2", "2.log"),
    ];
    let (given, _) = lab.run(&pod("counter", &containers, spec)).await?;
    let deadline = Instant::now() + LIMIT;
    for (container, line) in [("count-log-1", "2: one\n"), ("count-log-2", "two 2\n")] {
        while !kubectl(&["logs", "counter", container])
            .await?
            .contains(line)
        {
            ensure!(Instant::now() < deadline, "{container} does not stream");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    given.remove().await
}

/// The events of a pod as people see them: each step once, and none of an end.
pub(crate) async fn events(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = idle(
        "main",
        json!({"imagePullPolicy": "Always", "image": BUSYBOX}),
    );
    let (given, _) = lab.run(&pod("events", &[main], json!({}))).await?;
    let wanted = ["Scheduled", "Pulling", "Pulled", "Created", "Started"];
    let deadline = Instant::now() + LIMIT;
    loop {
        let text = kubectl(&[
            "get",
            "events",
            "--field-selector=involvedObject.name=events",
            "-o",
            "jsonpath={range .items[*]}{.reason}{\" \"}{end}",
        ])
        .await?;
        let told: Vec<&str> = text.split_whitespace().collect();
        if wanted.iter().all(|event| told.contains(event)) {
            for end in ["Killing", "SandboxChanged", "BackOff"] {
                ensure!(!told.contains(&end), "events: {text}");
            }
            break;
        }
        ensure!(Instant::now() < deadline, "events: {text}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    given.remove().await
}
