//! CNI plugins that misbehave. Whatever they do, RunPodSandbox fails with a message that names
//! them, and the next pod on a working network is fine.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use skiff_integration::client;

use crate::node::{Node, refused, says};

const CONFIGURATION: &str = "/etc/cni/net.d/00-faulty.conflist";
const PLUGIN: &str = "/opt/cni/bin/faulty";

/// The names of the node's network namespaces.
fn namespaces() -> BTreeSet<String> {
    let entries = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Puts a plugin in front of all others that answers with `script`, which sees $CNI_COMMAND.
async fn faulty(
    node: &mut Node,
    name: &str,
    script: &str,
    words: &[&str],
) -> anyhow::Result<Duration> {
    let before = namespaces();
    std::fs::write(PLUGIN, format!("#!/bin/sh\n{script}\n"))?;
    std::fs::set_permissions(PLUGIN, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let text = r#"{"cniVersion": "1.0.0", "name": "faulty", "plugins": [{"type": "faulty"}]}"#;
    std::fs::write(CONFIGURATION, text)?;
    // the directory is watched, and the watcher needs a moment
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let answer = node.cri.run_pod(&client::pod(name)).await;
    let took = began.elapsed();
    std::fs::remove_file(CONFIGURATION)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = refused("RunPodSandbox", answer)?;
    says("RunPodSandbox", status.message(), words)?;
    node.healthy(&format!("{name}-after")).await?;
    let left: Vec<String> = namespaces().difference(&before).cloned().collect();
    ensure!(left.is_empty(), "network namespaces are left: {left:?}");
    // a kubelet tries the same pod again
    let again = node
        .cri
        .run_pod(&client::pod(name))
        .await
        .context("RunPodSandbox again")?;
    node.cri
        .discard_pod(&again)
        .await
        .context("remove the pod")?;
    Ok(took)
}

pub(crate) async fn a_plugin_that_fails(node: &mut Node) -> anyhow::Result<()> {
    let script = r#"[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion": "1.0.0", "code": 11, "msg": "no addresses today", "details": "ask tomorrow"}'; exit 1"#;
    faulty(node, "cni-fails", script, &["faulty", "no addresses today"])
        .await
        .map(drop)
}

pub(crate) async fn a_plugin_that_prints_garbage(node: &mut Node) -> anyhow::Result<()> {
    let script = r#"[ "$CNI_COMMAND" = ADD ] || exit 0
head -c 100000 /dev/urandom"#;
    faulty(node, "cni-garbage", script, &["faulty"])
        .await
        .map(drop)
}

/// The lab's configuration gives a plugin 2 s.
pub(crate) async fn a_plugin_that_hangs(node: &mut Node) -> anyhow::Result<()> {
    let script = r#"[ "$CNI_COMMAND" = ADD ] || exit 0
sleep 98764"#;
    let took = faulty(node, "cni-hangs", script, &["faulty"]).await?;
    ensure!(
        took < Duration::from_secs(15),
        "RunPodSandbox took {took:?}"
    );
    Ok(())
}

/// NetworkReady turns false and says why; it turns true again when a configuration is there.
pub(crate) async fn no_configuration(node: &mut Node) -> anyhow::Result<()> {
    let (from, to) = (
        Path::new("/etc/cni/net.d/10-lab.conflist"),
        Path::new("/run/10-lab.conflist"),
    );
    std::fs::copy(from, to)?;
    std::fs::remove_file(from)?;
    let gone = network_ready(node, false).await;
    std::fs::copy(to, from)?;
    let message = gone?;
    says("NetworkReady", &message, &["/etc/cni/net.d"])?;
    network_ready(node, true).await.map(drop)
}

/// Waits until the condition has that value. Returns its message.
async fn network_ready(node: &mut Node, wanted: bool) -> anyhow::Result<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = node
            .cri
            .runtime
            .status(skiff_cri::v1::StatusRequest::default())
            .await
            .context("Status")?;
        let conditions = answer.into_inner().status.unwrap_or_default().conditions;
        let condition = conditions
            .into_iter()
            .find(|condition| condition.r#type == "NetworkReady");
        let condition = condition.context("Status has no condition NetworkReady")?;
        if condition.status == wanted {
            return Ok(condition.message);
        }
        ensure!(
            Instant::now() < deadline,
            "NetworkReady is not {wanted}: {}",
            condition.message
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
