//! What readers see of a pod.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use prost::bytes::Bytes;
use skiff_cri::v1 as cri;
use skiff_spec::selinux::Labels;

use super::state::State as PodState;
use crate::container::resources::Limits;
use crate::container::state::Denied;
use crate::container::{ContainerError, ContainerView, State};
use crate::id::Id;
use crate::listed::Listed;
use crate::selinux::PodLabels;
use crate::shim::{Client, ShimError};

/// What does not change in a pod's life.
#[derive(Debug)]
pub struct Facts {
    /// Pod id.
    pub id: Id,
    /// The request.
    pub config: cri::PodSandboxConfig,
    /// The runtime handler of the request.
    pub runtime_handler: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Its SELinux labels; `None` where labels mean nothing.
    pub labels: Option<PodLabels>,
}

impl Facts {
    /// Its metadata; empty when the request had none, which creation refuses.
    pub fn metadata(&self) -> cri::PodSandboxMetadata {
        self.config.metadata.clone().unwrap_or_default()
    }

    /// Its SELinux labels, for its record.
    pub fn recorded_labels(&self) -> Option<Labels> {
        self.labels.as_ref().map(|of_pod| of_pod.labels.clone())
    }

    /// The SELinux label of its files.
    pub fn files_label(&self) -> Option<String> {
        let of_pod = self.labels.as_ref()?;
        Some(of_pod.labels.files.to_string())
    }
}

/// A pod at one moment.
#[derive(Debug, Clone)]
pub struct PodView {
    /// What does not change.
    pub facts: Arc<Facts>,
    /// Where it is in its life.
    pub state: PodState,
    /// It may still have something outside its own directory that a pod has of this boot only:
    /// a shim, a network, processes.
    pub holding: bool,
    /// Its addresses, the first being the main one.
    pub ips: Vec<IpAddr>,
    /// Where its network namespace is bound; `None`: the host's network.
    pub netns: Option<PathBuf>,
    /// Parent of its containers' cgroups, relative to the root of the hierarchy.
    pub cgroup_parent: PathBuf,
    /// Its shim, while it lives.
    pub shim: Option<ShimView>,
    /// Why it is not as it should be, if it is not.
    pub reason: Option<String>,
    /// Its containers that clients may know of.
    pub containers: BTreeMap<Id, Arc<ContainerView>>,
    /// [`PodView::item`], encoded: empty in each new view, and never taken over from another.
    pub(crate) listed: Listed,
}

/// A pod's living shim.
#[derive(Debug, Clone)]
pub struct ShimView {
    /// Name of its run directory.
    pub id: String,
    /// Its pid.
    pub pid: i32,
    /// To ask it; `None` while it does not answer.
    pub client: Option<Client>,
}

impl PodView {
    /// The connection for what can only be done in a container that runs.
    pub fn client_for(
        &self,
        action: &'static str,
        container: &ContainerView,
    ) -> Result<&Client, ContainerError> {
        let id = container.facts.id.clone();
        let denied = match (&container.state, &self.shim) {
            (State::Running { .. }, Some(shim)) => {
                return shim.client.as_ref().ok_or_else(|| {
                    let shim = shim.id.clone();
                    let source = ShimError::Unreached { shim };
                    ContainerError::Shim { action, id, source }
                });
            }
            (State::Unknown { .. }, _) => Denied::NotKnown,
            _ => Denied::NotRunning,
        };
        Err(ContainerError::Denied { action, id, denied })
    }

    /// Whether what it asked to have for itself (ports, ids of the host) is its own. A pod that is not
    /// ready has it as long as its network or its processes may be there: its shim has died, or it
    /// could not be stopped.
    pub fn is_living(&self) -> bool {
        self.state != PodState::NotReady || self.holding
    }

    /// Whether clients may know of it.
    pub fn is_visible(&self) -> bool {
        self.state != PodState::Starting
    }

    /// The state in the words of the CRI.
    pub fn cri_state(&self) -> cri::PodSandboxState {
        match self.state {
            PodState::Ready => cri::PodSandboxState::SandboxReady,
            PodState::Starting | PodState::Stopping | PodState::NotReady => {
                cri::PodSandboxState::SandboxNotready
            }
        }
    }

    /// An item of ListPodSandbox.
    pub fn item(&self) -> cri::PodSandbox {
        let facts = &self.facts;
        cri::PodSandbox {
            id: facts.id.to_string(),
            metadata: Some(facts.metadata()),
            state: self.cri_state().into(),
            created_at: facts.created_at,
            labels: facts.config.labels.clone(),
            annotations: facts.config.annotations.clone(),
            runtime_handler: facts.runtime_handler.clone(),
        }
    }

    /// [`Self::item`], encoded once.
    pub fn listed(&self) -> Bytes {
        self.listed.or_encode(|| self.item())
    }

    /// The answer to PodSandboxStatus.
    pub fn status(&self) -> cri::PodSandboxStatus {
        let facts = &self.facts;
        let options = facts
            .config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref())
            .and_then(|context| context.namespace_options.clone())
            .unwrap_or_default();
        let namespaces = cri::Namespace {
            options: Some(options),
        };
        cri::PodSandboxStatus {
            id: facts.id.to_string(),
            metadata: Some(facts.metadata()),
            state: self.cri_state().into(),
            created_at: facts.created_at,
            network: Some(self.network()),
            linux: Some(cri::LinuxPodSandboxStatus {
                namespaces: Some(namespaces),
            }),
            labels: facts.config.labels.clone(),
            annotations: facts.config.annotations.clone(),
            runtime_handler: facts.runtime_handler.clone(),
        }
    }

    /// The status of each container, the newest first: with evented PLEG a kubelet takes the first of
    /// a name for the one that counts, and restarts it when that has ended. Limits are those that the
    /// cgroups have now.
    pub fn container_statuses(&self, limits: &Limits) -> Vec<cri::ContainerStatus> {
        let mut containers: Vec<_> = self.containers.values().collect();
        containers.sort_by_key(|container| std::cmp::Reverse(container.facts.created_at));
        let statuses = containers.into_iter().map(|one| limits.status(one));
        statuses.collect()
    }

    /// Without an address for a pod in the host's network: the kubelet knows the node's.
    fn network(&self) -> cri::PodSandboxNetworkStatus {
        let mut ips = self.ips.iter().map(IpAddr::to_string);
        cri::PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| cri::PodIp { ip }).collect(),
        }
    }
}
