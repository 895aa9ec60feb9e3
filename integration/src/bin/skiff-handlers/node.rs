//! The daemon under test and the short cuts every test uses.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use skiff_cri::v1::{
    ContainerConfig, ContainerState, ContainerStatus, ListPodSandboxRequest, PodSandbox,
    PodSandboxConfig,
};
use skiff_integration::client::{self, BUSYBOX, Cri};
use skiff_integration::daemon::Daemon;
use skiff_integration::process;

/// The handlers of other runtimes.
pub(crate) const HANDLERS: [&str; 2] = ["runc", "crun"];
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tests runtime handlers.
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
    /// Drop-ins of its configuration.
    #[arg(long, default_value = "/etc/skiff/skiff.toml.d")]
    pub(crate) drop_ins: PathBuf,
    /// Test only this handler, whose containers have a kernel each.
    #[arg(long)]
    pub(crate) sandboxed: Option<String>,
    /// Run only the tests whose name contains this.
    #[arg(long)]
    pub(crate) only: Option<String>,
}

/// The daemon all tests share.
pub(crate) struct Node {
    pub(crate) options: Options,
    pub(crate) cri: Cri,
    pub(crate) daemon: Daemon,
}

/// A pod and one container of it.
pub(crate) struct Running {
    pub(crate) pod: PodSandboxConfig,
    pub(crate) pod_id: String,
    pub(crate) id: String,
}

impl Node {
    pub(crate) async fn start(options: Options) -> anyhow::Result<Self> {
        let (daemon, mut cri) =
            Daemon::start(&options.skiffd, &[], &options.log, &options.endpoint).await?;
        cri.pull(BUSYBOX).await.context("pull the image")?;
        Ok(Self {
            options,
            cri,
            daemon,
        })
    }

    /// A pod whose name nobody else has, with one running shell script.
    pub(crate) async fn launch(&mut self, name: &str, script: &str) -> anyhow::Result<Running> {
        self.launch_as(name, script, |_, _| {}).await
    }

    /// The same with a request that is changed before it is sent.
    pub(crate) async fn launch_as(
        &mut self,
        name: &str,
        script: &str,
        change: impl FnOnce(&mut PodSandboxConfig, &mut ContainerConfig),
    ) -> anyhow::Result<Running> {
        let mut pod = client::pod(&format!("{name}-{}", self.cri.handler));
        let mut container = client::container("main", &["sh", "-c", script], &pod);
        change(&mut pod, &mut container);
        let pod_id = self.cri.run_pod(&pod).await.context("RunPodSandbox")?;
        let id = self.cri.create(&pod_id, &container, &pod).await;
        let id = id.context("CreateContainer")?;
        self.cri.start(&id).await.context("StartContainer")?;
        Ok(Running { pod, pod_id, id })
    }

    /// What a command in a container says; it must succeed.
    pub(crate) async fn says(&mut self, id: &str, script: &str) -> anyhow::Result<String> {
        let answer = self.cri.exec(id, &["sh", "-c", script], 20).await;
        let answer = answer.with_context(|| format!("exec {script:?}"))?;
        let (out, err) = (
            String::from_utf8(answer.stdout)?,
            String::from_utf8(answer.stderr)?,
        );
        ensure!(
            answer.exit_code == 0,
            "{script:?} ended with {}: {err}",
            answer.exit_code
        );
        Ok(out.trim_end().to_owned())
    }

    /// Waits until a container has ended.
    pub(crate) async fn ended(&mut self, id: &str) -> anyhow::Result<ContainerStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.cri.status(id).await.context("ContainerStatus")?;
            if status.state() == ContainerState::ContainerExited {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("container {id} is still {:?}", status.state());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a container's log has these lines, each without its time.
    pub(crate) async fn logged(&self, running: &Running, lines: &[&str]) -> anyhow::Result<()> {
        let path = format!("{}/main.log", running.pod.log_directory);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            let mut said: Vec<_> = log
                .lines()
                .map(|line| line.split_once(' ').map_or("", |(_, rest)| rest))
                .collect();
            said.sort_unstable();
            if said == lines {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{path} has {said:?}, not {lines:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Removes a pod and looks that nothing of it is left.
    pub(crate) async fn discard(&mut self, running: &Running) -> anyhow::Result<()> {
        let pod = &running.pod_id;
        self.cri.discard_pod(pod).await.context("remove the pod")?;
        ensure!(
            !PathBuf::from(format!("/run/skiff/runtimes/{pod}")).exists(),
            "state of the runtime"
        );
        ensure!(
            !PathBuf::from(format!("/sys/fs/cgroup/skiff/{pod}")).exists(),
            "cgroup of the pod"
        );
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let id = &running.id;
        ensure!(
            !mounts.contains(id.as_str()),
            "mounts of the container stay"
        );
        Ok(())
    }

    /// Removes the pod that a test had begun with.
    pub(crate) async fn discard_by_name(&mut self, name: &str) -> anyhow::Result<()> {
        let name = format!("{name}-{}", self.cri.handler);
        let list = self
            .cri
            .runtime
            .list_pod_sandbox(ListPodSandboxRequest::default())
            .await?;
        let has_name = |pod: &PodSandbox| pod.metadata.as_ref().is_some_and(|m| m.name == name);
        let pod = list
            .into_inner()
            .items()?
            .into_iter()
            .find(has_name)
            .context("no such pod")?;
        self.cri
            .discard_pod(&pod.id)
            .await
            .context("remove the pod")
    }

    /// SIGKILL and a new daemon.
    pub(crate) async fn crash(&mut self) -> anyhow::Result<()> {
        self.daemon.crash()?;
        let (cri, _) = self.daemon.restart().await?;
        let handler = std::mem::take(&mut self.cri.handler);
        self.cri = Cri { handler, ..cri };
        Ok(())
    }
}

/// The process with a last argument, which another runtime executes a moment after its start has answered.
pub(crate) async fn process_with(argument: &str) -> anyhow::Result<u32> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(&pid) = process::with_last_argument(argument).first() {
            return Ok(pid);
        }
        ensure!(Instant::now() < deadline, "no process with {argument}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
