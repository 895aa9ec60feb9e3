//! Volumes of the kinds that need no API server.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::json;
use skiff_integration::client::BUSYBOX;

use crate::lab::Lab;
use crate::manifest::{host_directory, idle, pod, scratch};
use crate::node::scratch_directory;

fn main_id(pod: &crate::status::Pod) -> anyhow::Result<String> {
    Ok(pod
        .container("main")
        .context("no main container")?
        .id()
        .to_owned())
}

/// Parts of a volume, one of them named by an environment variable; one that cannot be written to.
pub(crate) async fn sub_paths(lab: Arc<Lab>) -> anyhow::Result<()> {
    let directory = scratch_directory("sub-paths")?;
    fs::create_dir_all(directory.join("given/deep")).context("make the volume")?;
    fs::write(directory.join("given/deep/file"), "from the node\n").context("fill the volume")?;
    let main = idle(
        "main",
        json!({
            "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "volumeMounts": [
                {"name": "host", "mountPath": "/deep", "subPath": "given/deep", "readOnly": true},
                {"name": "host", "mountPath": "/one-file", "subPath": "given/deep/file"},
                {"name": "host", "mountPath": "/own", "subPathExpr": "$(POD)"},
            ],
        }),
    );
    let spec = json!({"volumes": [host_directory("host", &directory.display().to_string())]});
    let (given, pod) = lab.run(&pod("sub-paths", &[main], spec)).await?;
    let script =
        "cat /deep/file /one-file; touch /deep/x 2>/dev/null || echo refused; echo mine >/own/file";
    let said = lab.exec(&main_id(&pod)?, script).await?;
    ensure!(said == "from the node\nfrom the node\nrefused", "{said:?}");
    let own = directory.join(&given.name).join("file");
    ensure!(fs::read_to_string(&own).with_context(|| format!("read {own:?}"))? == "mine\n");
    given.remove().await
}

/// What the kubelet writes into a volume by itself, and a volume in memory with a limit.
pub(crate) async fn downward_and_in_memory(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = idle(
        "main",
        json!({
            "resources": {"limits": {"memory": "40Mi"}, "requests": {"cpu": "10m"}},
            "volumeMounts": [{"name": "told", "mountPath": "/told"}, {"name": "memory", "mountPath": "/memory"}],
        }),
    );
    let spec = json!({"volumes": [
        {"name": "told", "downwardAPI": {"defaultMode": 0o440, "items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "limit", "resourceFieldRef": {"containerName": "main", "resource": "limits.memory"}},
        ]}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
    ]});
    let (given, pod) = lab.run(&pod("projected", &[main], spec)).await?;
    let id = main_id(&pod)?;
    let said = lab
        .exec(
            &id,
            "cat /told/labels; echo; cat /told/limit; stat -L -c ' %a' /told/limit",
        )
        .await?;
    ensure!(said == "app=\"projected\"\n41943040 440", "{said:?}");
    let memory = lab
        .exec(&id, "df -k /memory | awk 'END {print $1, $2}'")
        .await?;
    ensure!(memory == "tmpfs 8192", "{memory:?}");
    given.remove().await
}

/// An image's files as a volume, whole and in part.
pub(crate) async fn an_image_as_a_volume(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = idle(
        "main",
        json!({"volumeMounts": [
            {"name": "image", "mountPath": "/image"},
            {"name": "image", "mountPath": "/etc-of-it", "subPath": "etc"},
        ]}),
    );
    let spec = json!({"volumes": [{"name": "image", "image": {"reference": BUSYBOX, "pullPolicy": "IfNotPresent"}}]});
    let (given, pod) = lab.run(&pod("image-volume", &[main], spec)).await?;
    let script = "test -x /image/bin/busybox && cmp /image/etc/passwd /etc-of-it/passwd && echo same; \
        touch /image/x 2>/dev/null || echo refused";
    let said = lab.exec(&main_id(&pod)?, script).await?;
    ensure!(said == "same\nrefused", "{said:?}");
    given.remove().await
}

/// A container's own file system is new with each instance, a volume of the pod is not.
pub(crate) async fn what_outlives_a_restart(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = idle(
        "main",
        json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}),
    );
    let spec = json!({"volumes": [scratch("data")]});
    let (given, pod) = lab.run(&pod("outlives", &[main], spec)).await?;
    let id = main_id(&pod)?;
    lab.exec(&id, "touch /gone /data/kept").await?;
    // the command ends with its container, and that is no success
    let ended = lab.exec(&id, "kill 1; sleep 100").await;
    ensure!(ended.is_err(), "a command outlived its container");
    let pod = given.restarted("main", 1).await?;
    let kept = lab
        .exec(&main_id(&pod)?, "ls -d /gone 2>/dev/null; ls /data")
        .await?;
    ensure!(kept == "kept", "{kept:?}");
    given.remove().await
}
