//! What readers see of a container.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::runtime::Spec;
use prost::bytes::Bytes;
use skiff_cri::v1 as cri;

use super::image_volumes::reported;
use super::record::{ContainerRecord, UserRecord};
use super::state::State;
use crate::id::Id;
use crate::listed::Listed;
use crate::record::Request;
use crate::selinux::Held;

/// The reason given for a container of which nobody can tell how it is.
const UNKNOWN: &str = "ContainerStatusUnknown";

/// What does not change in a container's life, unless its limits are changed.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Container id.
    pub id: Id,
    /// Its pod.
    pub pod: Id,
    /// The request.
    pub config: cri::ContainerConfig,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Id of its image, `sha256:...`.
    pub image_id: String,
    /// Name of its image as the user knows it.
    pub image: String,
    /// Ids of the images of its image volumes, by their paths in it.
    pub image_volumes: BTreeMap<PathBuf, String>,
    /// Its cgroup directory.
    pub cgroup: PathBuf,
    /// Its log.
    pub log_path: Option<PathBuf>,
    /// Who its first process runs as.
    pub user: UserRecord,
    /// Number of the signal that asks it to stop.
    pub stop_signal: i32,
    /// Its limits, once they have been changed.
    pub resources: Option<cri::LinuxContainerResources>,
    /// Its specification as far as an exec needs it: the process.
    pub process: Spec,
    /// The pair of categories of its SELinux level, in use as long as it is there.
    pub pair: Option<Arc<Held>>,
}

impl Facts {
    /// The facts of a record, its request and its specification, and the pair that it has.
    pub fn new(
        record: &ContainerRecord,
        config: cri::ContainerConfig,
        spec: Spec,
        pair: Option<Arc<Held>>,
    ) -> Self {
        let facts = Self {
            id: record.id.clone(),
            pod: record.pod.clone(),
            config,
            created_at: record.created_at,
            image_id: record.image_id.clone(),
            image: record.image.clone(),
            image_volumes: record.image_volumes.clone(),
            cgroup: record.cgroup.clone(),
            log_path: record.log_path.clone(),
            user: record.user.clone(),
            stop_signal: record.stop_signal,
            resources: None,
            process: only_process(spec),
            pair,
        };
        match record.resources.clone() {
            Some(Request(resources)) => facts.with_resources(resources),
            None => facts,
        }
    }

    /// With other limits, which an exec's process has, too.
    pub fn with_resources(mut self, resources: cri::LinuxContainerResources) -> Self {
        let score = i32::try_from(resources.oom_score_adj).ok();
        if let Some(mut process) = self.process.process().clone() {
            process.set_oom_score_adj(score.or(process.oom_score_adj()));
            self.process.set_process(Some(process));
        }
        self.resources = Some(resources);
        self
    }

    /// The limits asked for.
    pub fn resources(&self) -> Option<&cri::LinuxContainerResources> {
        let linux = self.config.linux.as_ref();
        let asked = || linux.and_then(|linux| linux.resources.as_ref());
        self.resources.as_ref().or_else(asked)
    }

    /// Its record in a state.
    pub fn record(&self, boot_id: &str, state: &State) -> ContainerRecord {
        ContainerRecord {
            boot_id: boot_id.into(),
            id: self.id.clone(),
            pod: self.pod.clone(),
            created_at: self.created_at,
            image_id: self.image_id.clone(),
            image: self.image.clone(),
            image_volumes: self.image_volumes.clone(),
            cgroup: self.cgroup.clone(),
            log_path: self.log_path.clone(),
            user: self.user.clone(),
            stop_signal: self.stop_signal,
            resources: self.resources.clone().map(Request),
            state: state.clone(),
        }
    }

    /// Its metadata; empty when the request had none, which creation refuses.
    pub fn metadata(&self) -> cri::ContainerMetadata {
        self.config.metadata.clone().unwrap_or_default()
    }
}

/// Drops what an exec does not need; the whole is in the record.
fn only_process(mut spec: Spec) -> Spec {
    spec.set_linux(None)
        .set_mounts(None)
        .set_annotations(None)
        .set_root(None);
    spec
}

/// A container at one moment.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// What does not change.
    pub facts: Arc<Facts>,
    /// What does.
    pub state: State,
    /// [`ContainerView::item`], encoded.
    listed: Listed,
}

impl ContainerView {
    /// The view of a container in a state.
    pub fn new(facts: Arc<Facts>, state: State) -> Self {
        Self {
            facts,
            state,
            listed: Listed::default(),
        }
    }

    /// The image as clients are told: the name that the user gave.
    fn image(&self) -> cri::ImageSpec {
        let spec = self.facts.config.image.clone().unwrap_or_default();
        cri::ImageSpec {
            image: self.facts.image.clone(),
            ..spec
        }
    }

    /// The state in the words of the CRI.
    pub fn cri_state(&self) -> cri::ContainerState {
        match self.state {
            State::Creating | State::Unknown { .. } => cri::ContainerState::ContainerUnknown,
            State::Created { .. } | State::Starting { .. } => cri::ContainerState::ContainerCreated,
            State::Running { .. } => cri::ContainerState::ContainerRunning,
            State::Exited { .. } => cri::ContainerState::ContainerExited,
        }
    }

    /// An item of ListContainers.
    pub fn item(&self) -> cri::Container {
        let facts = &self.facts;
        cri::Container {
            id: facts.id.to_string(),
            pod_sandbox_id: facts.pod.to_string(),
            metadata: Some(facts.metadata()),
            image: Some(self.image()),
            image_ref: facts.image_id.clone(),
            state: self.cri_state().into(),
            created_at: facts.created_at,
            labels: facts.config.labels.clone(),
            annotations: facts.config.annotations.clone(),
            image_id: facts.image_id.clone(),
        }
    }

    /// [`Self::item`], encoded once.
    pub fn listed(&self) -> Bytes {
        self.listed.or_encode(|| self.item())
    }

    /// The answer to ContainerStatus.
    pub fn status(&self) -> cri::ContainerStatus {
        let facts = &self.facts;
        let (started_at, finished_at, exit_code, reason, message) = match &self.state {
            State::Running { started_at, .. } => (*started_at, 0, 0, "", ""),
            State::Exited { exit } => (
                exit.started_at,
                exit.finished_at,
                exit.code,
                &*exit.reason,
                &*exit.message,
            ),
            State::Unknown { started_at, why } => (*started_at, 0, 0, UNKNOWN, &**why),
            State::Creating | State::Created { .. } | State::Starting { .. } => (0, 0, 0, "", ""),
        };
        cri::ContainerStatus {
            id: facts.id.to_string(),
            metadata: Some(facts.metadata()),
            state: self.cri_state().into(),
            created_at: facts.created_at,
            started_at,
            finished_at,
            exit_code,
            image: Some(self.image()),
            image_ref: facts.image_id.clone(),
            reason: reason.into(),
            message: message.into(),
            labels: facts.config.labels.clone(),
            annotations: facts.config.annotations.clone(),
            mounts: reported(&facts.config.mounts, &facts.image_volumes),
            log_path: facts
                .log_path
                .as_ref()
                .map_or_else(String::new, |path| path.to_string_lossy().into_owned()),
            resources: facts.resources().map(|resources| cri::ContainerResources {
                linux: Some(resources.clone()),
                windows: None,
            }),
            image_id: facts.image_id.clone(),
            user: Some(cri::ContainerUser {
                linux: Some(self.user()),
            }),
            stop_signal: skiff_spec::Signal::new(facts.stop_signal)
                .map_or(0, skiff_spec::Signal::to_cri),
        }
    }

    fn user(&self) -> cri::LinuxContainerUser {
        let user = &self.facts.user;
        cri::LinuxContainerUser {
            uid: user.uid.into(),
            gid: user.gid.into(),
            supplemental_groups: user.groups.iter().map(|group| i64::from(*group)).collect(),
        }
    }
}
