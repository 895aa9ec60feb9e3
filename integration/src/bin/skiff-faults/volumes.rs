//! Volumes on a file system that hangs.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use skiff_cri::v1::{ListContainersRequest, Mount, StatusRequest};
use skiff_integration::client;
use tokio::time::timeout;

use crate::node::Node;

/// Where the file system is; frozen, whoever writes to it sleeps until it thaws, as with a file
/// server that has gone.
const FROZEN: &str = "/mnt/frozen";
/// How long a call may take that has nothing to do with the volume.
const PATIENCE: Duration = Duration::from_secs(5);

/// More containers that wait for it than skiffd has threads: everybody else is served, and they
/// are made when it answers again.
pub(crate) async fn a_file_system_that_hangs(node: &mut Node) -> anyhow::Result<()> {
    let disk = Disk::freeze()?;
    let mut waiting = Vec::new();
    for number in 0..3 {
        let pod = client::pod(&format!("frozen-{number}"));
        let pod_id = timeout(PATIENCE, node.cri.run_pod(&pod)).await;
        let pod_id = pod_id.context("RunPodSandbox hangs too")??;
        let mut container = client::container("main", &["sleep", "3600"], &pod);
        container.mounts.push(Mount {
            host_path: format!("{FROZEN}/{number}"),
            container_path: "/volume".into(),
            ..Mount::default()
        });
        let (mut cri, id) = (node.cri.clone(), pod_id.clone());
        let created = tokio::spawn(async move { cri.create(&id, &container, &pod).await });
        waiting.push((pod_id, created));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let served = others_are_served(node).await;
    drop(disk);
    for (pod_id, created) in waiting {
        let created = timeout(PATIENCE, created).await.context("after the thaw")?;
        created?.context("CreateContainer")?;
        let removed = node.cri.discard_pod(&pod_id).await;
        removed.context("remove the pod")?;
    }
    served
}

async fn others_are_served(node: &mut Node) -> anyhow::Result<()> {
    let runtime = &mut node.cri.runtime;
    let status = timeout(PATIENCE, runtime.status(StatusRequest::default())).await;
    status.context("Status hangs too")??;
    let list = timeout(
        PATIENCE,
        runtime.list_containers(ListContainersRequest::default()),
    );
    list.await.context("ListContainers hangs too")??;
    let healthy = timeout(2 * PATIENCE, node.healthy("beside-frozen")).await;
    healthy.context("another pod hangs too")?
}

/// A file system in a file, frozen until it is dropped.
struct Disk;

impl Disk {
    fn freeze() -> anyhow::Result<Self> {
        std::fs::create_dir_all(FROZEN)?;
        let image = "/var/frozen.img";
        std::fs::File::create(image)?.set_len(32 << 20)?;
        run("modprobe", &["loop"])?;
        run("mke2fs", &["-q", "-F", image])?;
        run("mount", &["-o", "loop", image, FROZEN])?;
        run("fsfreeze", &["--freeze", FROZEN])?;
        Ok(Self)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("fsfreeze", &["--unfreeze", FROZEN]);
    }
}

fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program).args(args).status();
    let status = status.with_context(|| format!("run {program}"))?;
    if !status.success() {
        bail!("{program} {}: {status}", args.join(" "));
    }
    Ok(())
}
