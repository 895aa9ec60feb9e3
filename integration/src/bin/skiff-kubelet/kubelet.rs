//! The kubelet as a child process, with an API server or with its pods as files in a directory.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::cluster::KUBECONFIG;
use crate::http;
use crate::manifest::merge;
use crate::node::Front;

/// Where the kubelet looks for pods.
pub(crate) const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Where it answers without asking who asks.
pub(crate) const READ_ONLY_PORT: u16 = 10255;
const HEALTH_PORT: u16 = 10248;
const CONFIG: &str = "/etc/kubernetes/kubelet.json";

/// A start takes 3 s, on a busy machine some times that.
const START_LIMIT: Duration = Duration::from_secs(90);

/// The kubelet stops when /proc/cpuinfo does not tell the clock rate, as under User-Mode Linux. It
/// sees a copy that does, alone: a /proc that something covers would be refused to pods with user
/// namespaces. And it believes in swap only where its own cgroup has a limit of it, so not in the
/// root.
const IN_ITS_OWN_VIEW: &str = r#"
mkdir -p /sys/fs/cgroup/kubelet && echo $$ >/sys/fs/cgroup/kubelet/cgroup.procs || exit 1
grep -q 'cpu MHz' /proc/cpuinfo || {
  sed 's/^processor.*/&\ncpu MHz\t\t: 2000.000/' /proc/cpuinfo >/run/cpuinfo
  mount --make-private /proc && mount --bind /run/cpuinfo /proc/cpuinfo
} && exec "$@""#;

/// A kubelet that this driver started. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Kubelet {
    program: PathBuf,
    front: Front,
    log: PathBuf,
    child: Child,
}

/// The configuration with which a node is quick to react, changed by `changes` key by key.
pub(crate) fn config(endpoint: &str, changes: &Value) -> Value {
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "staticPodPath": MANIFESTS,
        "containerRuntimeEndpoint": endpoint,
        "readOnlyPort": READ_ONLY_PORT,
        "healthzPort": HEALTH_PORT,
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "failSwapOn": false,
        "memorySwap": {"swapBehavior": "LimitedSwap"},
        "evictionHard": {"memory.available": "10Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "crashLoopBackOff": {"maxContainerRestartPeriod": "3s"},
        "syncFrequency": "1s",
        "fileCheckFrequency": "1s",
        "featureGates": {},
    });
    merge(&mut config, changes);
    config
}

impl Kubelet {
    /// Starts `program` with this configuration, its output appended to `log`. Returns once it is
    /// healthy.
    pub(crate) async fn start(
        program: &Path,
        front: Front,
        log: &Path,
        config: &Value,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(MANIFESTS).context("make the directory of static pods")?;
        configure(config)?;
        let mut kubelet = Self {
            program: program.to_owned(),
            front,
            log: log.to_owned(),
            child: spawn(program, front, log)?,
        };
        kubelet.healthy().await?;
        Ok(kubelet)
    }

    /// It has not ended by itself.
    pub(crate) fn lives(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!(
                "the kubelet ended with {status}, see {}",
                self.log.display()
            ),
            None => Ok(()),
        }
    }

    /// SIGKILL, as a crash would be.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("kill the kubelet")?;
        self.child.wait().context("wait for the kubelet")?;
        Ok(())
    }

    /// Ends it with this signal, if it has not ended, and starts it again. Containers are none of
    /// its children.
    pub(crate) async fn restart(&mut self, signal: Signal) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), signal).context("signal the kubelet")?;
        }
        let deadline = Instant::now() + START_LIMIT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the kubelet has not ended {START_LIMIT:?} after {signal:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.child = spawn(&self.program, self.front, &self.log)?;
        self.healthy().await
    }

    async fn healthy(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let Err(refusal) = ready().await else {
                return Ok(());
            };
            self.lives()?;
            if Instant::now() > deadline {
                return Err(refusal.context(format!(
                    "the kubelet is not healthy, see {}",
                    self.log.display()
                )));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// It is healthy and tells its pods.
async fn ready() -> anyhow::Result<()> {
    http::get(HEALTH_PORT, "/healthz").await?;
    http::get(READ_ONLY_PORT, "/pods").await?;
    Ok(())
}

/// Writes the configuration that the next start reads.
pub(crate) fn configure(config: &Value) -> anyhow::Result<()> {
    fs::write(CONFIG, config.to_string()).with_context(|| format!("write {CONFIG}"))
}

/// Changes the configuration that the next start reads, key by key.
pub(crate) fn reconfigure(changes: &Value) -> anyhow::Result<()> {
    let text = fs::read(CONFIG).with_context(|| format!("read {CONFIG}"))?;
    let mut config = serde_json::from_slice(&text).with_context(|| CONFIG.to_owned())?;
    merge(&mut config, changes);
    configure(&config)
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        // already ended: nothing to do, and nobody to tell
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, front: Front, log: &Path) -> anyhow::Result<Child> {
    let api: &[&str] = match front {
        Front::Files => &[],
        Front::Api => &["--kubeconfig", KUBECONFIG],
    };
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open {log:?}"))?;
    Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "unchanged",
            "sh",
            "-c",
            IN_ITS_OWN_VIEW,
            "sh",
        ])
        .arg(program)
        .args([
            "--config",
            CONFIG,
            "--hostname-override",
            "node",
            "--v",
            "2",
        ])
        .args(api)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {program:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reaches_the_key_it_names() {
        let config = config(
            "unix:///x",
            &json!({"featureGates": {"EventedPLEG": true}, "maxPods": 5}),
        );
        assert_eq!(config["featureGates"]["EventedPLEG"], true);
        assert_eq!(config["maxPods"], 5);
        assert_eq!(config["memorySwap"]["swapBehavior"], "LimitedSwap");
    }
}
