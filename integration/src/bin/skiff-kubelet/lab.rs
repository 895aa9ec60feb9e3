//! What a scenario works with: the node, and the pods that it gives to the kubelet.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use skiff_cri::v1::{PodSandboxMetadata, PodSandboxState};

use crate::kubelet::MANIFESTS;
use crate::midway::Midway;
use crate::node::{Front, LOOK, Node};
use crate::status::Pod;
use crate::{cluster, http};

/// How long anything may take that has to happen: far more than it does on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

/// The node as one scenario has it.
pub(crate) struct Lab {
    node: Arc<Node>,
    midway: Option<Arc<Midway>>,
    arrived: AtomicBool,
}

/// A pod that was given to the kubelet.
pub(crate) struct Given {
    node: Arc<Node>,
    /// Its file, unless the API server has it.
    manifest: Option<PathBuf>,
    /// Its name, as the kubelet tells it.
    pub(crate) name: String,
}

impl Deref for Lab {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.arrive();
    }
}

impl Lab {
    /// For one scenario, which is counted by `midway`.
    pub(crate) fn new(node: Arc<Node>, midway: Option<Arc<Midway>>) -> Self {
        Self {
            node,
            midway,
            arrived: AtomicBool::new(false),
        }
    }

    /// The middle of the scenario: its pods are as they will stay for a while. Where restarts are
    /// tested they happen now.
    pub(crate) async fn midway(&self) -> anyhow::Result<()> {
        self.arrive();
        match &self.midway {
            Some(midway) => midway.pass(&self.node).await,
            None => Ok(()),
        }
    }

    /// Restarts happen in the middle.
    pub(crate) fn restarts(&self) -> bool {
        self.midway.is_some()
    }

    fn arrive(&self) {
        if let Some(midway) = &self.midway
            && !self.arrived.swap(true, Ordering::Relaxed)
        {
            midway.arrive();
        }
    }

    /// Gives the kubelet a pod.
    pub(crate) async fn give(&self, pod: &Value) -> anyhow::Result<Given> {
        let name = pod["metadata"]["name"]
            .as_str()
            .context("a pod without a name")?;
        let (manifest, name) = match self.node.front {
            Front::Files => {
                let manifest = PathBuf::from(format!("{MANIFESTS}/{name}.json"));
                write(&manifest, pod)?;
                (Some(manifest), format!("{name}-node"))
            }
            Front::Api => {
                cluster::create("/api/v1/namespaces/default/pods", pod).await?;
                (None, name.to_owned())
            }
        };
        let node = self.node.clone();
        Ok(Given {
            node,
            manifest,
            name,
        })
    }

    /// A pod that somebody else gives to the API server.
    pub(crate) fn known(&self, name: &str) -> Given {
        Given {
            node: self.node.clone(),
            manifest: None,
            name: name.to_owned(),
        }
    }

    /// Gives the kubelet a pod and waits until it runs, which is the middle of most scenarios.
    pub(crate) async fn run(&self, pod: &Value) -> anyhow::Result<(Given, Pod)> {
        let given = self.give(pod).await?;
        given.runs().await?;
        self.midway().await?;
        let pod = given.runs().await?;
        Ok((given, pod))
    }
}

/// Writes a pod's file. The kubelet reads whatever is in its directory, also half of a file.
fn write(manifest: &Path, pod: &Value) -> anyhow::Result<()> {
    let whole = "/etc/kubernetes/new.json";
    fs::write(whole, pod.to_string()).with_context(|| format!("write {whole}"))?;
    fs::rename(whole, manifest).with_context(|| format!("move {whole} to {manifest:?}"))
}

impl Given {
    /// What the kubelet says of it once that passes `test`.
    pub(crate) async fn until(
        &self,
        what: &str,
        test: impl Fn(&Pod) -> bool,
    ) -> anyhow::Result<Pod> {
        let mut pods = self.node.pods.clone();
        let mut last = None;
        let passes = async {
            loop {
                let ours = |pod: &&Pod| pod.name() == self.name;
                let pod = pods.borrow_and_update().iter().find(ours).cloned();
                if let Some(pod) = pod {
                    if test(&pod) {
                        return Ok(pod);
                    }
                    last = Some(pod);
                }
                pods.changed()
                    .await
                    .context("nobody asks the kubelet any more")?;
            }
        };
        if let Ok(pod) = tokio::time::timeout(LIMIT, passes).await {
            return pod;
        }
        let unknown = || json!("the kubelet does not know the pod");
        let seen = last.map_or_else(unknown, |pod| pod.0["status"].clone());
        bail!("{}: {what}: not within {LIMIT:?}: {seen}", self.name)
    }

    /// All its containers run and are ready.
    pub(crate) async fn runs(&self) -> anyhow::Result<Pod> {
        let ready = |pod: &Pod| pod.phase() == "Running" && pod.is("Ready");
        self.until("it runs", ready).await
    }

    /// Every container of it has ended, for good.
    pub(crate) async fn ends(&self) -> anyhow::Result<Pod> {
        let over = |pod: &Pod| ["Succeeded", "Failed"].contains(&pod.phase());
        self.until("it ends", over).await
    }

    /// A container of it has ended so often that this is instance number `restarts`, and it runs.
    pub(crate) async fn restarted(&self, name: &str, restarts: u64) -> anyhow::Result<Pod> {
        let again = |pod: &Pod| {
            let container = pod.container(name);
            container.is_some_and(|one| one.restarts() == restarts && one.running())
        };
        self.until(&format!("{name} has restarted {restarts} times"), again)
            .await
    }

    /// Takes it from the kubelet. Returns when the kubelet has forgotten it and nothing of it runs.
    pub(crate) async fn remove(self) -> anyhow::Result<()> {
        let mut pods = self.node.pods.clone();
        let known = pods
            .borrow()
            .iter()
            .find(|pod| pod.name() == self.name)
            .cloned();
        match &self.manifest {
            Some(file) => fs::remove_file(file).with_context(|| format!("remove {file:?}"))?,
            None => {
                let path = cluster::pod_path(&self.name);
                http::ask(cluster::PROXY_PORT, "DELETE", &path, "").await?;
            }
        }
        let gone = pods.wait_for(|pods| pods.iter().all(|pod| pod.name() != self.name));
        match tokio::time::timeout(LIMIT, gone).await {
            Ok(gone) => drop(gone?),
            Err(_) => bail!("{}: the kubelet still knows it after {LIMIT:?}", self.name),
        }
        // A kubelet that has just started may not have told it; its sandboxes have its name, too.
        let is_its = |of: &PodSandboxMetadata| match &known {
            Some(known) => of.uid == known.uid(),
            None => of.name == self.name,
        };
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut left = self.node.sandboxes().await?;
            left.retain(|one| one.metadata.as_ref().is_some_and(is_its));
            if left
                .iter()
                .all(|one| one.state() == PodSandboxState::SandboxNotready)
            {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{}: it still runs after {LIMIT:?}",
                self.name
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}
