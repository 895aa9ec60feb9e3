//! The daemon under test, and a container with the limits that a test is about.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use skiff_cri::v1::{
    ContainerState, ContainerStatus, ContainerStatusRequest, LinuxContainerResources,
    ListPodSandboxRequest, PodSandboxConfig, UpdateContainerResourcesRequest,
};
use skiff_integration::client::{self, Cri};
use skiff_integration::daemon::{Daemon, Flags};
use tonic::{Code, Status};

/// Tests limits and their changes.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) daemon: Flags,
    /// Test the systemd driver.
    #[arg(long)]
    pub(crate) systemd: bool,
}

pub(crate) struct Lab {
    pub(crate) cri: Cri,
    pub(crate) daemon: Daemon,
    pods: usize,
}

/// A container, and its cgroup.
pub(crate) struct Made {
    pub(crate) pod: String,
    pub(crate) id: String,
    pub(crate) cgroup: PathBuf,
}

impl Lab {
    pub(crate) async fn start(options: Options) -> anyhow::Result<Self> {
        let (daemon, cri) = options.daemon.start().await?;
        let pods = 0;
        Ok(Self { cri, daemon, pods })
    }

    /// Removes all pods.
    pub(crate) async fn clear(&mut self) -> anyhow::Result<()> {
        let request = ListPodSandboxRequest { filter: None };
        let list = self
            .cri
            .runtime
            .list_pod_sandbox(request)
            .await?
            .into_inner();
        for pod in list.items()? {
            let discarded = self.cri.discard_pod(&pod.id).await;
            discarded.with_context(|| format!("remove pod {}", pod.id))?;
        }
        Ok(())
    }

    /// The configuration of a new pod, in the host's network for the speed of it.
    pub(crate) fn pod(&mut self, parent: &str) -> PodSandboxConfig {
        self.pods += 1;
        let mut pod = client::on_host_network(client::pod(&format!("limits-{}", self.pods)));
        pod.linux.get_or_insert_default().cgroup_parent = parent.to_owned();
        pod
    }

    /// A created container that would run `script`.
    pub(crate) async fn create(
        &mut self,
        script: &str,
        resources: LinuxContainerResources,
    ) -> anyhow::Result<Made> {
        let pod = self.pod("");
        self.create_in(&pod, script, resources).await
    }

    pub(crate) async fn create_in(
        &mut self,
        pod: &PodSandboxConfig,
        script: &str,
        resources: LinuxContainerResources,
    ) -> anyhow::Result<Made> {
        let pod_id = self.cri.run_pod(pod).await.context("RunPodSandbox")?;
        let mut config = client::container("main", &["sh", "-c", script], pod);
        config.linux.get_or_insert_default().resources = Some(resources);
        let id = self.cri.create(&pod_id, &config, pod).await;
        let id = id.context("CreateContainer")?;
        let request = ContainerStatusRequest {
            container_id: id.clone(),
            verbose: true,
        };
        let answer = self
            .cri
            .runtime
            .container_status(request)
            .await?
            .into_inner();
        let info = answer.info.get("info").context("no verbose information")?;
        let info: serde_json::Value = serde_json::from_str(info)?;
        let cgroup = info["cgroup"].as_str().context("no cgroup in it")?;
        Ok(Made {
            pod: pod_id,
            id,
            cgroup: cgroup.into(),
        })
    }

    /// A running container.
    pub(crate) async fn run(
        &mut self,
        script: &str,
        resources: LinuxContainerResources,
    ) -> anyhow::Result<Made> {
        let made = self.create(script, resources).await?;
        self.cri.start(&made.id).await.context("StartContainer")?;
        Ok(made)
    }

    /// UpdateContainerResources.
    pub(crate) async fn update(
        &mut self,
        id: &str,
        resources: LinuxContainerResources,
    ) -> Result<(), Status> {
        let request = UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(resources),
            ..Default::default()
        };
        let answer = self.cri.runtime.update_container_resources(request).await;
        answer.map(drop)
    }

    /// The limits that ContainerStatus reports.
    pub(crate) async fn reported(&mut self, id: &str) -> anyhow::Result<LinuxContainerResources> {
        let status = self.cri.status(id).await.context("ContainerStatus")?;
        let resources = status.resources.and_then(|resources| resources.linux);
        resources.context("ContainerStatus reports no limits")
    }

    /// Waits until a container has ended.
    pub(crate) async fn ended(&mut self, id: &str) -> anyhow::Result<ContainerStatus> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let status = self.cri.status(id).await.context("ContainerStatus")?;
            if status.state() == ContainerState::ContainerExited {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "it is still {:?}",
                status.state()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the daemon and starts it again.
    pub(crate) async fn crash(&mut self) -> anyhow::Result<()> {
        self.daemon.crash()?;
        (self.cri, _) = self.daemon.restart().await?;
        Ok(())
    }
}

impl Made {
    /// What a file of its cgroup holds.
    pub(crate) fn file(&self, file: &str) -> anyhow::Result<String> {
        read(&self.cgroup.join(file))
    }

    /// Its cgroup holds these.
    pub(crate) fn holds(&self, expected: &[(&str, &str)]) -> anyhow::Result<()> {
        for (file, value) in expected {
            let is = self.file(file)?;
            ensure!(is == *value, "{file} is {is:?}, not {value:?}");
        }
        Ok(())
    }

    /// Waits until its cgroup uses so much of something.
    pub(crate) async fn uses(&self, file: &str, least: u64) -> anyhow::Result<u64> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let now: u64 = self.file(file)?.parse()?;
            if now >= least {
                return Ok(now);
            }
            ensure!(Instant::now() < deadline, "{file} is {now}, not {least}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// A call was refused with that code, in these words.
pub(crate) fn refused<T>(
    answer: Result<T, Status>,
    code: Code,
    words: &[&str],
) -> anyhow::Result<()> {
    let Err(status) = answer else {
        bail!("it was not refused");
    };
    ensure!(
        status.code() == code,
        "refused as {:?}: {}",
        status.code(),
        status.message()
    );
    said(status.message(), words)
}

/// A message has these words.
pub(crate) fn said(message: &str, words: &[&str]) -> anyhow::Result<()> {
    for word in words {
        ensure!(message.contains(word), "{word:?} is not in: {message}");
    }
    Ok(())
}

pub(crate) fn unified(pairs: &[(&str, &str)]) -> LinuxContainerResources {
    LinuxContainerResources {
        unified: pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Default::default()
    }
}

pub(crate) fn memory(limit: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        memory_limit_in_bytes: limit,
        ..Default::default()
    }
}

pub(crate) const MIB: i64 = 1 << 20;
