//! The runtime under test, and containers that are looked at from inside.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use skiff_cri::v1::{
    ContainerConfig, ContainerState, ContainerStatus, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, Mount, PodSandboxConfig, SecurityProfile,
    security_profile,
};
use skiff_integration::client::{self, BUSYBOX, Cri};
use skiff_probe::report::Report;
use tonic::Status;

use crate::inside::Inside;

/// Where a container finds the probe.
pub(crate) const PROBE: &str = "/skiff-probe";

/// What a kubelet asks to have masked and made read-only unless a pod wants it otherwise.
const MASKED: [&str; 8] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// How long a container may take to say or do what is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Looks at containers from inside, one mechanism after the other.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// The runtime's socket.
    #[arg(long, default_value = "unix:///run/skiff/skiff.sock")]
    pub(crate) endpoint: String,
    /// The static program that is put into the containers.
    #[arg(long, default_value = "/usr/local/bin/skiff-probe")]
    pub(crate) probe: PathBuf,
    /// Run what differs on a stock kernel, for a slow machine that has one, instead of everything.
    #[arg(long)]
    pub(crate) stock: bool,
    /// Run only the checks whose name contains this.
    #[arg(long)]
    pub(crate) only: Option<String>,
}

/// The runtime under test.
pub(crate) struct Lab {
    pub(crate) cri: Cri,
    probe: String,
    /// Images that are there.
    pulled: Vec<String>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) pod: PodSandboxConfig,
    pub(crate) container: ContainerConfig,
}

impl Shape {
    /// A pod with a network of its own and one container, in which the probe reports and waits.
    pub(crate) fn new(name: &str) -> Self {
        let pod = client::pod(name);
        let mut container = client::container("main", &[PROBE, "hold"], &pod);
        let linux = container.linux.get_or_insert_default();
        let security = linux.security_context.get_or_insert_default();
        security.no_new_privs = false;
        security.masked_paths = MASKED.map(str::to_owned).to_vec();
        security.readonly_paths = READ_ONLY.map(str::to_owned).to_vec();
        Self { pod, container }
    }

    /// The container's security context.
    pub(crate) fn security(&mut self) -> &mut LinuxContainerSecurityContext {
        let linux = self.container.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default()
    }

    /// The container's resources.
    pub(crate) fn resources(&mut self) -> &mut LinuxContainerResources {
        let linux = self.container.linux.get_or_insert_default();
        linux.resources.get_or_insert_default()
    }

    /// The pod's part for Linux.
    pub(crate) fn pod_linux(&mut self) -> &mut LinuxPodSandboxConfig {
        self.pod.linux.get_or_insert_default()
    }

    /// Mounts `host` at `inside`.
    pub(crate) fn mount(&mut self, host: &str, inside: &str) -> &mut Mount {
        self.container.mounts.push(Mount {
            host_path: host.to_owned(),
            container_path: inside.to_owned(),
            ..Default::default()
        });
        let last = self.container.mounts.len() - 1;
        &mut self.container.mounts[last]
    }

    /// Lets the probe do something else than to report and wait.
    pub(crate) fn run(&mut self, arguments: &[&str]) {
        let arguments = arguments.iter().map(ToString::to_string);
        self.container.command = std::iter::once(PROBE.to_owned()).chain(arguments).collect();
    }
}

/// A profile for seccomp or AppArmor.
pub(crate) fn profile(
    kind: security_profile::ProfileType,
    localhost_ref: &str,
) -> Option<SecurityProfile> {
    Some(SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: localhost_ref.to_owned(),
    })
}

impl Lab {
    pub(crate) async fn new(options: &Options) -> anyhow::Result<Self> {
        let cri = Cri::connect(&options.endpoint).await;
        let cri = cri.with_context(|| format!("connect to {}", options.endpoint))?;
        let probe = options.probe.to_str().context("--probe is no text")?;
        Ok(Self {
            cri,
            probe: probe.to_owned(),
            pulled: Vec::new(),
        })
    }

    /// Pulls an image once.
    pub(crate) async fn pull(&mut self, image: &str) -> anyhow::Result<()> {
        if !self.pulled.iter().any(|each| each == image) {
            let pull = self.cri.pull(image).await;
            pull.with_context(|| format!("pull {image}"))?;
            self.pulled.push(image.to_owned());
        }
        Ok(())
    }

    async fn prepare(&mut self, shape: &mut Shape) -> anyhow::Result<()> {
        let image = shape.container.image.get_or_insert_default().image.clone();
        self.pull(&image).await?;
        // of an earlier check with the same name
        let _ = std::fs::remove_dir_all(&shape.pod.log_directory);
        let probe = self.probe.clone();
        if shape
            .container
            .command
            .first()
            .is_some_and(|first| first == PROBE)
        {
            shape.mount(&probe, PROBE).readonly = true;
        }
        Ok(())
    }

    /// Starts what `shape` asks for, lets `check` look, and removes the pod whatever comes of it.
    pub(crate) async fn look(
        &mut self,
        mut shape: Shape,
        check: impl AsyncFnOnce(&mut Inside<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.prepare(&mut shape).await?;
        let pod_id = self
            .cri
            .run_pod(&shape.pod)
            .await
            .context("RunPodSandbox")?;
        let outcome = async {
            let id = self.start(&pod_id, &shape).await?;
            let mut inside = Inside {
                lab: &mut *self,
                shape,
                pod_id: pod_id.clone(),
                id,
                report: Report::default(),
            };
            let line = inside.said("main").await?;
            inside.report = serde_json::from_str(&line)
                .with_context(|| format!("the container did not report, it said: {line}"))?;
            check(&mut inside).await
        }
        .await;
        let removed = self.cri.discard_pod(&pod_id).await;
        outcome?;
        removed.context("remove the pod")
    }

    /// Runs a container to its end, which must come by itself, and returns how it ended.
    pub(crate) async fn end(&mut self, mut shape: Shape) -> anyhow::Result<ContainerStatus> {
        self.prepare(&mut shape).await?;
        let pod_id = self
            .cri
            .run_pod(&shape.pod)
            .await
            .context("RunPodSandbox")?;
        let outcome = async {
            let id = self.start(&pod_id, &shape).await?;
            self.ended(&id).await
        }
        .await;
        let removed = self.cri.discard_pod(&pod_id).await;
        let status = outcome?;
        removed.context("remove the pod")?;
        Ok(status)
    }

    pub(crate) async fn ended(&mut self, id: &str) -> anyhow::Result<ContainerStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.cri.status(id).await.context("ContainerStatus")?;
            if status.state() == ContainerState::ContainerExited {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "still {:?}", status.state());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn start(&mut self, pod_id: &str, shape: &Shape) -> anyhow::Result<String> {
        let id = self.cri.create(pod_id, &shape.container, &shape.pod).await;
        let id = id.context("CreateContainer")?;
        self.cri.start(&id).await.context("StartContainer")?;
        Ok(id)
    }

    /// The runtime must refuse this, by the time the container would start, with all of the words in
    /// its message. What was made until then is removed.
    pub(crate) async fn refuses(&mut self, mut shape: Shape, words: &[&str]) -> anyhow::Result<()> {
        self.prepare(&mut shape).await?;
        let pod_id = match self.cri.run_pod(&shape.pod).await {
            Ok(pod_id) => pod_id,
            Err(status) => return refusal("RunPodSandbox", &status, words),
        };
        let outcome = match self.cri.create(&pod_id, &shape.container, &shape.pod).await {
            Err(status) => refusal("CreateContainer", &status, words),
            Ok(id) => match self.cri.start(&id).await {
                Err(status) => refusal("StartContainer", &status, words),
                Ok(()) => Err(anyhow::anyhow!("the container runs")),
            },
        };
        let removed = self.cri.discard_pod(&pod_id).await;
        outcome?;
        removed.context("remove the pod")
    }
}

fn refusal(call: &str, status: &Status, words: &[&str]) -> anyhow::Result<()> {
    let message = status.message();
    if status.code() == tonic::Code::Unavailable {
        bail!("{call}: the runtime went away: {message}");
    }
    for word in words {
        ensure!(
            message.contains(word),
            "{call}: {word:?} is not in the message: {message}"
        );
    }
    Ok(())
}

/// Both must be equal.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: T,
    expected: T,
) -> anyhow::Result<()> {
    ensure!(found == expected, "{what}: {found:?}, not {expected:?}");
    Ok(())
}

/// The busybox image, for a shape that runs nothing of the probe's.
pub(crate) const SHELL: &str = BUSYBOX;
