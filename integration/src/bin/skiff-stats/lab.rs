//! The daemon under test, and a container whose use of things a test is about.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use skiff_cri::v1::{
    ContainerState, ContainerStats, ContainerStatsRequest, ContainerStatus, ContainerStatusRequest,
    LinuxContainerResources, ListPodSandboxRequest, PodSandboxConfig, PodSandboxStats,
    PodSandboxStatsRequest, UInt64Value,
};
use skiff_integration::client::{self, BUSYBOX, Cri};
use skiff_integration::daemon::Daemon;

pub(crate) const MIB: u64 = 1 << 20;

/// How long it may take until what is told is what is.
const PATIENCE: Duration = Duration::from_secs(40);

/// Tests stats and metrics.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// The daemon to start.
    #[arg(long, default_value = "/usr/local/bin/skiffd")]
    pub(crate) skiffd: PathBuf,
    /// Its socket.
    #[arg(long, default_value = "unix:///run/skiff/skiff.sock")]
    pub(crate) endpoint: String,
    /// Its log, appended to.
    #[arg(long, default_value = "/var/log/skiffd.log")]
    pub(crate) log: PathBuf,
    /// Run only the tests whose name contains this.
    #[arg(long)]
    pub(crate) only: Option<String>,
}

pub(crate) struct Lab {
    pub(crate) cri: Cri,
    pub(crate) daemon: Daemon,
    pods: usize,
}

/// A running container, and its cgroup.
pub(crate) struct Made {
    pub(crate) pod: String,
    pub(crate) id: String,
    pub(crate) config: PodSandboxConfig,
    cgroup: PathBuf,
}

impl Lab {
    pub(crate) async fn start(options: Options) -> anyhow::Result<Self> {
        let (daemon, mut cri) =
            Daemon::start(&options.skiffd, &[], &options.log, &options.endpoint).await?;
        cri.pull(BUSYBOX).await.context("pull the image")?;
        let pods = 0;
        Ok(Self { cri, daemon, pods })
    }

    /// Removes all pods.
    pub(crate) async fn clear(&mut self) -> anyhow::Result<()> {
        let request = ListPodSandboxRequest { filter: None };
        let list = self.cri.runtime.list_pod_sandbox(request).await?;
        for pod in list.into_inner().items()? {
            let discarded = self.cri.discard_pod(&pod.id).await;
            discarded.with_context(|| format!("remove pod {}", pod.id))?;
        }
        Ok(())
    }

    /// The configuration of a new pod, with a cgroup that nothing else is in.
    pub(crate) fn pod(&mut self) -> PodSandboxConfig {
        self.pods += 1;
        let name = format!("stats-{}", self.pods);
        let mut pod = client::pod(&name);
        pod.linux.get_or_insert_default().cgroup_parent = format!("/kubepods/{name}");
        pod
    }

    /// A container that runs `script`, in a pod in the host's network for the speed of it.
    pub(crate) async fn run(
        &mut self,
        script: &str,
        resources: LinuxContainerResources,
    ) -> anyhow::Result<Made> {
        let parent = self.pod();
        let linux = parent.linux.clone().unwrap_or_default();
        let mut pod = client::on_host_network(parent);
        pod.linux.get_or_insert_default().cgroup_parent = linux.cgroup_parent;
        self.run_in(pod, script, resources).await
    }

    pub(crate) async fn run_in(
        &mut self,
        pod: PodSandboxConfig,
        script: &str,
        resources: LinuxContainerResources,
    ) -> anyhow::Result<Made> {
        let pod_id = self.cri.run_pod(&pod).await.context("RunPodSandbox")?;
        self.add(pod, pod_id, "main", script, resources).await
    }

    /// A container in a pod that there is.
    pub(crate) async fn add(
        &mut self,
        pod: PodSandboxConfig,
        pod_id: String,
        name: &str,
        script: &str,
        resources: LinuxContainerResources,
    ) -> anyhow::Result<Made> {
        let mut config = client::container(name, &["sh", "-c", script], &pod);
        config.labels.insert("name".into(), name.into());
        config.linux.get_or_insert_default().resources = Some(resources);
        let id = self.cri.create(&pod_id, &config, &pod).await;
        let id = id.context("CreateContainer")?;
        self.cri.start(&id).await.context("StartContainer")?;
        let request = ContainerStatusRequest {
            container_id: id.clone(),
            verbose: true,
        };
        let answer = self.cri.runtime.container_status(request).await?;
        let info = answer.into_inner().info;
        let info = info.get("info").context("no verbose information")?;
        let info: serde_json::Value = serde_json::from_str(info)?;
        let cgroup = info["cgroup"].as_str().context("no cgroup in it")?;
        Ok(Made {
            pod: pod_id,
            id,
            config: pod,
            cgroup: cgroup.into(),
        })
    }

    /// ContainerStats.
    pub(crate) async fn stats(&mut self, id: &str) -> anyhow::Result<ContainerStats> {
        let request = ContainerStatsRequest {
            container_id: id.to_owned(),
        };
        let answer = self.cri.runtime.container_stats(request).await?;
        answer.into_inner().stats.context("an answer without stats")
    }

    /// PodSandboxStats.
    pub(crate) async fn pod_stats(&mut self, id: &str) -> anyhow::Result<PodSandboxStats> {
        let request = PodSandboxStatsRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let answer = self.cri.runtime.pod_sandbox_stats(request).await?;
        answer.into_inner().stats.context("an answer without stats")
    }

    /// Asks for a container's stats until they are as they should be. `check` says what is wrong.
    pub(crate) async fn until<T>(
        &mut self,
        id: &str,
        check: impl Fn(&ContainerStats) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats(id).await?;
            match check(&stats) {
                Ok(found) => return Ok(found),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// The same, of a pod.
    pub(crate) async fn until_pod<T>(
        &mut self,
        id: &str,
        check: impl Fn(&PodSandboxStats) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.pod_stats(id).await?;
            match check(&stats) {
                Ok(found) => return Ok(found),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Waits until a container has ended.
    pub(crate) async fn ended(&mut self, id: &str) -> anyhow::Result<ContainerStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.cri.status(id).await.context("ContainerStatus")?;
            if status.state() == ContainerState::ContainerExited {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "it is {:?}", status.state());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs a command in a container. Returns what it printed.
    pub(crate) async fn exec(&mut self, id: &str, script: &str) -> anyhow::Result<String> {
        let done = self.cri.exec(id, &["sh", "-c", script], 60).await?;
        let (code, errors) = (done.exit_code, String::from_utf8_lossy(&done.stderr));
        ensure!(code == 0, "{script}: {code}: {errors}");
        Ok(String::from_utf8(done.stdout)?)
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
        let path = self.cgroup.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim_end().to_owned())
    }

    /// The number that a file of its cgroup is.
    pub(crate) fn number(&self, file: &str) -> anyhow::Result<u64> {
        let text = self.file(file)?;
        text.parse().with_context(|| format!("{file}: {text:?}"))
    }

    /// The number after a key in a file of its cgroup.
    pub(crate) fn keyed(&self, file: &str, key: &str) -> anyhow::Result<u64> {
        let text = self.file(file)?;
        let line = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok();
        let found = text.lines().find_map(line);
        found.with_context(|| format!("no {key} in {file}: {text}"))
    }

    /// The pod's cgroup.
    pub(crate) fn parent(&self) -> anyhow::Result<Self> {
        let cgroup = self.cgroup.parent().context("a cgroup without a parent")?;
        Ok(Self {
            pod: self.pod.clone(),
            id: self.pod.clone(),
            config: self.config.clone(),
            cgroup: cgroup.into(),
        })
    }
}

/// The number in an answer.
pub(crate) fn told(what: &str, value: Option<UInt64Value>) -> anyhow::Result<u64> {
    match value {
        Some(UInt64Value { value }) => Ok(value),
        None => bail!("nothing is told of {what}"),
    }
}

/// Two numbers that were read at different times are about the same.
pub(crate) fn close(what: &str, told: u64, is: u64, within: u64) -> anyhow::Result<()> {
    ensure!(
        told.abs_diff(is) <= within,
        "{what}: {told} is told, {is} it is"
    );
    Ok(())
}
