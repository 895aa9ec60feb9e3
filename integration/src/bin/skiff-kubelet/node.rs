//! The daemon, the kubelet on it, and what both say of the node's pods while they come and go.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use rustix::process::Signal;
use serde_json::Value;
use skiff_cri::v1::{
    Container, ContainerStatus, ImageFsInfoRequest, ListContainersRequest, ListImagesRequest,
    ListPodSandboxRequest, PodSandbox,
};
use skiff_integration::client::{BUSYBOX, Cri};
use skiff_integration::daemon::Daemon;
use tokio::sync::{Mutex, watch};
use tonic::{Code, Status};

use crate::cluster::PROXY_PORT;
use crate::http;
use crate::kubelet::{self, Kubelet, READ_ONLY_PORT};
use crate::status::Pod;

/// How often the pods are asked for.
pub(crate) const LOOK: Duration = Duration::from_millis(300);

/// How long a call is repeated while the daemon is being started anew.
const AWAY: Duration = Duration::from_secs(60);

/// Runs a real kubelet, and real pods under it.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// The daemon to start.
    #[arg(long, default_value = "/usr/local/bin/skiffd")]
    pub(crate) skiffd: PathBuf,
    /// The kubelet to start, looked up in PATH.
    #[arg(long, default_value = "kubelet")]
    pub(crate) kubelet: PathBuf,
    /// The daemon's socket.
    #[arg(long, default_value = "unix:///run/skiff/skiff.sock")]
    pub(crate) endpoint: String,
    /// The directory of the logs skiffd.log and kubelet.log.
    #[arg(long, default_value = "/var/log")]
    pub(crate) logs: PathBuf,
    /// Run only the tests whose name contains this.
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Start a cluster around the kubelet, and test what needs one.
    #[arg(long)]
    pub(crate) cluster: bool,
    /// Restart runtime and kubelet in the middle of every scenario.
    #[arg(long)]
    pub(crate) restarts: bool,
    /// Start so many pods on a runtime that runs already, and measure it.
    #[arg(long)]
    pub(crate) load: Option<usize>,
    /// Probe them every second.
    #[arg(long, requires = "load")]
    pub(crate) probes: bool,
    /// How many scenarios run at once.
    #[arg(long, default_value_t = 8)]
    pub(crate) together: usize,
    /// Feature gates of the kubelet to switch on, besides the usual ones.
    #[arg(long, value_delimiter = ',')]
    pub(crate) gates: Vec<String>,
}

/// Who gives the kubelet its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// Files in a directory: the kubelet is alone.
    Files,
    /// An API server.
    Api,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) front: Front,
    /// What the kubelet has been told to have besides the usual.
    pub(crate) gates: Vec<String>,
    daemon: Mutex<Daemon>,
    pub(crate) kubelet: Mutex<Kubelet>,
    cri: Cri,
    pub(crate) pods: watch::Receiver<Vec<Pod>>,
}

impl Node {
    /// Starts the daemon, pulls the usual image, and starts a kubelet whose configuration is
    /// changed by `changes`. With an API server, that runs already.
    pub(crate) async fn start(
        options: &Options,
        front: Front,
        changes: &Value,
    ) -> anyhow::Result<Self> {
        let log = options.logs.join("skiffd.log");
        let (daemon, mut cri) = Daemon::start(&options.skiffd, &[], log, &options.endpoint).await?;
        cri.pull(BUSYBOX).await.context("pull the image")?;
        let config = kubelet::config(&options.endpoint, changes);
        let log = options.logs.join("kubelet.log");
        let kubelet = Kubelet::start(&options.kubelet, front, &log, &config).await?;
        let (sender, pods) = watch::channel(Vec::new());
        tokio::spawn(look(front, sender));
        Ok(Self {
            front,
            gates: options.gates.clone(),
            daemon: Mutex::new(daemon),
            kubelet: Mutex::new(kubelet),
            cri,
            pods,
        })
    }

    /// Kills the daemon as a crash would, and starts it again.
    pub(crate) async fn crash_daemon(&self) -> anyhow::Result<()> {
        self.daemon.lock().await.crash()?;
        self.start_daemon().await
    }

    /// Ends the daemon as its service manager would.
    pub(crate) async fn stop_daemon(&self) -> anyhow::Result<()> {
        self.daemon.lock().await.terminate()
    }

    /// Starts the daemon after its end.
    pub(crate) async fn start_daemon(&self) -> anyhow::Result<()> {
        self.daemon.lock().await.restart().await.map(drop)
    }

    /// Ends the kubelet as its service manager would, and starts it again.
    pub(crate) async fn restart_kubelet(&self) -> anyhow::Result<()> {
        self.kubelet.lock().await.restart(Signal::TERM).await
    }

    /// ContainerStatus, with times to the nanosecond, which the kubelet does not tell.
    pub(crate) async fn status(&self, id: &str) -> anyhow::Result<ContainerStatus> {
        let deadline = Instant::now() + AWAY;
        loop {
            match self.cri.clone().status(id).await {
                Ok(status) => return Ok(status),
                Err(status) => retry(status, deadline, "ContainerStatus").await?,
            }
        }
    }

    /// What a command in a container prints; an exit code that is not 0 is an error.
    pub(crate) async fn exec(&self, id: &str, script: &str) -> anyhow::Result<String> {
        let deadline = Instant::now() + AWAY;
        let command = ["sh", "-c", script];
        let answer = loop {
            match self.cri.clone().exec(id, &command, 120).await {
                Ok(answer) => break answer,
                Err(status) => retry(status, deadline, script).await?,
            }
        };
        ensure!(
            answer.exit_code == 0,
            "{script}: exit code {}: {}",
            answer.exit_code,
            String::from_utf8_lossy(&answer.stderr)
        );
        Ok(String::from_utf8_lossy(&answer.stdout)
            .trim_end()
            .to_owned())
    }

    /// The lines of a container's log, without the time and the stream that each begins with.
    pub(crate) async fn log(&self, id: &str) -> anyhow::Result<Vec<String>> {
        let path = self.status(id).await?.log_path;
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        Ok(messages(&text))
    }

    /// Waits until a container's log is these lines.
    pub(crate) async fn logs(&self, id: &str, expected: &[&str]) -> anyhow::Result<()> {
        let deadline = Instant::now() + AWAY;
        loop {
            let log = self.log(id).await?;
            if log == expected {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the log is {log:?}, not {expected:?}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A cgroup file of a running container.
    pub(crate) async fn cgroup(&self, id: &str, file: &str) -> anyhow::Result<String> {
        self.exec(id, &format!("cat /sys/fs/cgroup/{file}")).await
    }

    /// The containers that the runtime has.
    pub(crate) async fn containers(&self) -> anyhow::Result<Vec<Container>> {
        let deadline = Instant::now() + AWAY;
        loop {
            let request = ListContainersRequest::default();
            match self.cri.clone().runtime.list_containers(request).await {
                Ok(answer) => return Ok(answer.into_inner().containers()?),
                Err(status) => retry(status, deadline, "ListContainers").await?,
            }
        }
    }

    /// Pulls an image.
    pub(crate) async fn pull(&self, image: &str) -> anyhow::Result<()> {
        let pulled = self.cri.clone().pull(image).await;
        pulled.map(drop).with_context(|| format!("pull {image}"))
    }

    /// The names of all images.
    pub(crate) async fn images(&self) -> anyhow::Result<Vec<String>> {
        let request = ListImagesRequest::default();
        let answer = self.cri.clone().image.list_images(request).await;
        let images = answer.context("ListImages")?.into_inner().images;
        Ok(images.into_iter().flat_map(|one| one.repo_tags).collect())
    }

    /// What all images take, unpacked, as ImageFsInfo tells it.
    pub(crate) async fn image_bytes(&self) -> anyhow::Result<u64> {
        let request = ImageFsInfoRequest::default();
        let answer = self.cri.clone().image.image_fs_info(request).await;
        let systems = answer.context("ImageFsInfo")?.into_inner();
        let used = systems.image_filesystems.into_iter().next();
        let used = used.and_then(|system| system.used_bytes);
        Ok(used.context("ImageFsInfo without used bytes")?.value)
    }

    /// The pods that the runtime has.
    pub(crate) async fn sandboxes(&self) -> anyhow::Result<Vec<PodSandbox>> {
        let deadline = Instant::now() + AWAY;
        loop {
            let request = ListPodSandboxRequest::default();
            match self.cri.clone().runtime.list_pod_sandbox(request).await {
                Ok(answer) => return Ok(answer.into_inner().items()?),
                Err(status) => retry(status, deadline, "ListPodSandbox").await?,
            }
        }
    }
}

/// Returns if a call may be made again: the daemon is away, and not for too long.
async fn retry(status: Status, deadline: Instant, what: &str) -> anyhow::Result<()> {
    if status.code() != Code::Unavailable || Instant::now() > deadline {
        return Err(status).with_context(|| what.to_owned());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}

/// What each line of a container's log says.
pub(crate) fn messages(log: &str) -> Vec<String> {
    let message = |line: &str| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
    log.lines().map(message).collect()
}

/// A directory of the node, new and empty, that a container may use.
pub(crate) fn scratch_directory(name: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(format!("/var/tmp/kubelet-suite/{name}"));
    fs::create_dir_all(&path).with_context(|| format!("make {path:?}"))?;
    Ok(path)
}

/// Keeps asking for the pods. While there is no answer, the last one stands.
async fn look(front: Front, pods: watch::Sender<Vec<Pod>>) {
    let (port, path) = match front {
        Front::Files => (READ_ONLY_PORT, "/pods"),
        Front::Api => (PROXY_PORT, "/api/v1/namespaces/default/pods"),
    };
    while !pods.is_closed() {
        if let Ok(answer) = http::get(port, path).await
            && let Ok(mut list) = serde_json::from_str::<Value>(&answer)
        {
            // no pods are null to the kubelet
            let items = list["items"].as_array_mut().map(std::mem::take);
            pods.send_replace(items.unwrap_or_default().into_iter().map(Pod).collect());
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_follows_the_tag() {
        let log = "2026-01-01T00:00:00.0Z stdout F one two\n2026-01-01T00:00:00.0Z stderr F \n";
        assert_eq!(messages(log), ["one two", ""]);
    }
}
