//! How a pod's task makes a container: who may have one, and what it is made of.

use std::sync::Arc;

use skiff_cri::v1 as cri;
use skiff_spec::{PodFacts, PodNetwork, pod_namespaces};

use super::files::{HOSTNAME, HOSTS, RESOLV_CONF, host_name, pod_hostname};
use super::state::State as PodState;
use super::task::{Answer, Creation, Done, PodTask, Slot};
use crate::container::create::Plan;
use crate::container::state::Event;
use crate::container::{ContainerError, ContainerView, Facts, State};
use crate::handler::Handler;
use crate::id::Id;
use crate::telemetry::Timeline;

/// What a request for a container comes to.
enum Admission {
    New(Id),
    Join(usize),
    Exists(Id),
}

impl PodTask {
    pub(super) fn create_container(
        &mut self,
        config: cri::ContainerConfig,
        timeline: Timeline,
        answer: Answer<Id, ContainerError>,
    ) {
        match self.admit(&config) {
            Ok(Admission::Join(at)) => self.creations[at].waiters.push(answer),
            Ok(Admission::Exists(id)) => {
                let _ = answer.send(Ok(id));
            }
            Ok(Admission::New(id)) => self.begin_creation(id, config, timeline, answer),
            Err(error) => {
                let _ = answer.send(Err(Arc::new(error)));
            }
        }
    }

    /// Whether a request is for a new container, or a second one for a container that is being
    /// made or waits to be started.
    fn admit(&self, config: &cri::ContainerConfig) -> Result<Admission, ContainerError> {
        let cri::ContainerMetadata { name, attempt } = config.metadata.clone().unwrap_or_default();
        let pod = self.record.id.clone();
        if self.record.state != PodState::Ready || self.removal.is_some() {
            let reason = self
                .reason
                .clone()
                .map_or(String::new(), |why| format!(": {why}"));
            return Err(ContainerError::PodNotReady { name, pod, reason });
        }
        let exists = |id: &Id, why| {
            let (name, pod, id) = (name.clone(), pod.clone(), id.clone());
            Err(ContainerError::Exists {
                name,
                attempt,
                pod,
                id,
                why,
            })
        };
        let another = "made from another configuration";
        let same_name = |other: &cri::ContainerConfig| other.metadata == config.metadata;
        if let Some(at) = self
            .creations
            .iter()
            .position(|made| same_name(&made.config))
        {
            let made = &self.creations[at];
            let same = made.config == *config;
            return if same {
                Ok(Admission::Join(at))
            } else {
                exists(&made.id, another)
            };
        }
        let holder = self
            .containers
            .iter()
            .find(|(_, slot)| same_name(&slot.view.facts.config));
        match holder {
            None => Ok(Admission::New(Id::random().map_err(ContainerError::Id)?)),
            Some((id, slot)) if slot.view.facts.config != *config => exists(id, another),
            Some((id, slot)) if slot.removing => exists(id, "and is being removed"),
            Some((id, slot)) if !matches!(slot.view.state, State::Created { .. }) => {
                exists(id, "and has been started")
            }
            Some((id, _)) => Ok(Admission::Exists(id.clone())),
        }
    }

    fn begin_creation(
        &mut self,
        id: Id,
        config: cri::ContainerConfig,
        timeline: Timeline,
        answer: Answer<Id, ContainerError>,
    ) {
        let client = match self.client() {
            Ok(client) => client,
            Err(source) => {
                let action = "create";
                let error = ContainerError::Shim { action, id, source };
                let _ = answer.send(Err(Arc::new(error)));
                return;
            }
        };
        let handler = match self.handler(&config) {
            Ok(handler) => handler,
            Err(error) => {
                let _ = answer.send(Err(Arc::new(error)));
                return;
            }
        };
        let plan = Plan {
            id: id.clone(),
            handler,
            pod_config: Arc::clone(self.handle.facts()),
            pod: self.pod_facts(),
            cgroup_parent: self.record.cgroup_parent.clone(),
            target_pid: self.target_pid(&config),
            config: config.clone(),
            timeline,
        };
        self.creations.push(Creation {
            id: id.clone(),
            config,
            waiters: vec![answer],
            exit: None,
        });
        let daemon = Arc::clone(&self.daemon);
        self.begin(async move { Done::Created(id, plan.run(&daemon, &client).await) });
    }

    /// What its handler stands for now; the runtime must be the one that the pod was made for.
    fn handler(&self, config: &cri::ContainerConfig) -> Result<Arc<Handler>, ContainerError> {
        let asked = &self.handle.facts().runtime_handler;
        let handlers = self.daemon.handlers.load();
        let failed = |why| ContainerError::Handler {
            name: config.metadata.clone().unwrap_or_default().name,
            pod: self.record.id.clone(),
            handler: asked.clone(),
            why,
        };
        let handler = handlers.find(asked);
        let handler = handler.ok_or_else(|| failed("is not configured any more"))?;
        if handler.external.is_some() != self.record.external.is_some() {
            return Err(failed("stands for another runtime now"));
        }
        Ok(Arc::clone(handler))
    }

    fn pod_facts(&self) -> PodFacts {
        let config = &self.handle.facts().config;
        let dir = self.daemon.layout.pod_files(&self.record.id);
        let network = match &self.record.netns {
            Some(path) => PodNetwork::Namespace(path.clone()),
            None => PodNetwork::Host,
        };
        PodFacts {
            id: self.record.id.to_string(),
            shim_pid: self.record.shim.process.pid,
            hostname: match network {
                PodNetwork::Host => host_name(),
                PodNetwork::Namespace(_) => pod_hostname(config),
            },
            network,
            // The pod would not have been started if this could not be read.
            host_ipc: pod_namespaces(config).is_ok_and(|namespaces| namespaces.host_ipc),
            init_pid: self.record.init_pid,
            hostname_path: Some(dir.join(HOSTNAME)),
            hosts_path: Some(dir.join(HOSTS)),
            resolv_conf_path: Some(dir.join(RESOLV_CONF)),
            labels: self.handle.facts().recorded_labels(),
        }
    }

    /// The first process of the container that a request wants to share the PID namespace of.
    fn target_pid(&self, config: &cri::ContainerConfig) -> Option<i32> {
        let context = config.linux.as_ref()?.security_context.as_ref()?;
        let target = &context.namespace_options.as_ref()?.target_id;
        let slot = self.containers.get(target.as_str())?;
        slot.view.state.process().map(|process| process.pid)
    }

    pub(super) fn container_created(
        &mut self,
        id: &Id,
        result: Result<(Arc<Facts>, State), ContainerError>,
    ) {
        let result = result.map(|(facts, state)| {
            let (pod, name) = (&self.record.id, facts.metadata().name);
            tracing::info!(container = %id, %pod, name, "created");
            self.containers
                .insert(id.clone(), Slot::new(ContainerView::new(facts, state)));
            self.daemon
                .store
                .add_container(id.clone(), Arc::clone(&self.handle));
            self.publish();
            id.clone()
        });
        let result = result.map_err(Arc::new);
        let at = self
            .creations
            .iter()
            .position(|creation| creation.id == *id);
        if let Some(creation) = at.map(|at| self.creations.swap_remove(at)) {
            if let Some(record) = creation.exit {
                self.apply(id, Event::Ended(record.into()));
                self.keep_exit(id);
            }
            for waiter in creation.waiters {
                let _ = waiter.send(result.clone());
            }
        }
        self.advance_removal();
    }
}
