//! The daemon under test and the short cuts every test uses.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use clap::Parser;
use skiff_cri::v1::{
    ContainerState, ContainerStatus, PodSandboxConfig, PodSandboxStatusRequest, VersionRequest,
};
use skiff_integration::client::{self, Cri};
use skiff_integration::daemon::{Daemon, Flags};
use tonic::{Code, Status};

/// Tests skiffd with bad input and faults.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) daemon: Flags,
}

/// The daemon all tests share.
pub(crate) struct Node {
    pub(crate) options: Options,
    pub(crate) cri: Cri,
    pub(crate) daemon: Daemon,
}

/// A pod that is ready, and one running container in it.
pub(crate) struct Running {
    pub(crate) pod: PodSandboxConfig,
    pub(crate) pod_id: String,
    pub(crate) id: String,
}

impl Node {
    pub(crate) async fn start(options: Options) -> anyhow::Result<Self> {
        let (daemon, cri) = options.daemon.start().await?;
        Ok(Self {
            options,
            cri,
            daemon,
        })
    }

    /// The daemon after a test: an error when it no longer answers, and a new one in its place.
    pub(crate) async fn revive(&mut self) -> anyhow::Result<()> {
        let answer = tokio::time::timeout(
            Duration::from_secs(10),
            self.cri.runtime.version(VersionRequest::default()),
        );
        let error = match answer.await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(status)) => anyhow!("{status}"),
            Err(_) => anyhow!("no answer within 10 s"),
        };
        self.daemon.crash()?;
        let (cri, _) = self.daemon.restart().await?;
        self.cri = cri;
        Err(error.context("skiffd did not answer Version after the test"))
    }

    /// RunPodSandbox, CreateContainer and StartContainer with a shell command.
    pub(crate) async fn launch(&mut self, name: &str, script: &str) -> anyhow::Result<Running> {
        let pod = client::pod(name);
        let pod_id = self.cri.run_pod(&pod).await.context("RunPodSandbox")?;
        let container = client::container("main", &["sh", "-c", script], &pod);
        let id = self
            .cri
            .create(&pod_id, &container, &pod)
            .await
            .context("CreateContainer")?;
        self.cri.start(&id).await.context("StartContainer")?;
        Ok(Running { pod, pod_id, id })
    }

    /// Waits until a container has ended.
    pub(crate) async fn ended(&mut self, id: &str) -> anyhow::Result<ContainerStatus> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.cri.status(id).await.context("ContainerStatus")?;
            if status.state() == ContainerState::ContainerExited {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("container {id} is still {:?}", status.state());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A pod can be run and removed: nothing of a fault has stayed.
    pub(crate) async fn healthy(&mut self, name: &str) -> anyhow::Result<()> {
        let running = self.launch(name, "sleep 3600").await?;
        let answer = self
            .cri
            .exec(&running.id, &["true"], 10)
            .await
            .context("ExecSync")?;
        ensure!(
            answer.exit_code == 0,
            "exec true: exit code {}",
            answer.exit_code
        );
        self.cri
            .discard_pod(&running.pod_id)
            .await
            .context("remove the pod")
    }

    /// A pod is known and in which state.
    pub(crate) async fn pod_state(
        &mut self,
        id: &str,
    ) -> Result<skiff_cri::v1::PodSandboxState, Status> {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let answer = self
            .cri
            .runtime
            .pod_sandbox_status(request)
            .await?
            .into_inner();
        answer
            .status
            .map(|status| status.state())
            .ok_or_else(|| Status::internal("no status in the answer"))
    }
}

/// The refusal of a call that had to be refused.
pub(crate) fn refused<T>(call: &str, answer: Result<T, Status>) -> anyhow::Result<Status> {
    match answer {
        Ok(_) => bail!("{call} succeeded"),
        Err(status) if status.code() == Code::Unavailable => {
            bail!("{call}: the daemon went away: {status}")
        }
        Err(status) => Ok(status),
    }
}

/// A refusal with that code and all of these words in its message.
pub(crate) fn refused_with<T>(
    call: &str,
    answer: Result<T, Status>,
    code: Code,
    words: &[&str],
) -> anyhow::Result<()> {
    let status = refused(call, answer)?;
    ensure!(
        status.code() == code,
        "{call}: code {:?}, not {code:?}: {}",
        status.code(),
        status.message()
    );
    says(call, status.message(), words)
}

/// A message with all of these words in it.
pub(crate) fn says(what: &str, message: &str, words: &[&str]) -> anyhow::Result<()> {
    for word in words {
        ensure!(
            message.contains(word),
            "{what}: {word:?} is not in the message: {message}"
        );
    }
    Ok(())
}
