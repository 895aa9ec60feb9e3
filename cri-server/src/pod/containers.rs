//! How a pod's task carries out what concerns one of its containers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skiff_cri::v1 as cri;
use skiff_shim_proto::message::FailureKind;
use skiff_shim_proto::record::ExitRecord;
use skiff_spec::{PodFacts, PodNetwork, pod_namespaces};

use super::files::{HOSTNAME, HOSTS, RESOLV_CONF, host_name, pod_hostname};
use super::state::State as PodState;
use super::task::{Answer, Creation, Done, PodTask, Slot};
use crate::cgroup;
use crate::clock;
use crate::container::create::{self, Plan};
use crate::container::state::{Denied, Event, step};
use crate::container::stop::{Action, Stop};
use crate::container::{ContainerError, ContainerView, Exit, Facts, State};
use crate::id::Id;
use crate::layout::EXIT_RECORD;
use crate::shim::ShimError;

const SIGKILL: i32 = 9;

impl PodTask {
    pub(super) fn create_container(
        &mut self,
        config: cri::ContainerConfig,
        answer: Answer<Id, ContainerError>,
    ) {
        match self.admit(&config) {
            Ok(Admission::Join(at)) => self.creations[at].waiters.push(answer),
            Ok(Admission::Exists(id)) => {
                let _ = answer.send(Ok(id));
            }
            Ok(Admission::New(id)) => self.begin_creation(id, config, answer),
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
            return Err(ContainerError::PodNotReady { name, pod });
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
        answer: Answer<Id, ContainerError>,
    ) {
        let Some(client) = self.client() else {
            let name = config.metadata.clone().unwrap_or_default().name;
            let error = ContainerError::PodNotReady {
                name,
                pod: self.record.id.clone(),
            };
            let _ = answer.send(Err(Arc::new(error)));
            return;
        };
        let plan = Plan {
            id: id.clone(),
            pod_config: Arc::clone(self.handle.facts()),
            pod: self.pod_facts(),
            cgroup_parent: self.record.cgroup_parent.clone(),
            target_pid: self.target_pid(&config),
            config: config.clone(),
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

    fn pod_facts(&self) -> PodFacts {
        let config = &self.handle.facts().config;
        let dir = self.daemon.layout.pod(&self.record.id);
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
                .insert(id.clone(), Slot::new(ContainerView { facts, state }));
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
            }
            for waiter in creation.waiters {
                let _ = waiter.send(result.clone());
            }
        }
        self.advance_removal();
    }

    pub(super) fn start_container(&mut self, id: &Id, answer: Answer<(), ContainerError>) {
        // Dropping the answer says that there is no such container.
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        let started = match step(&slot.view.state, Event::Start) {
            Ok(_) if slot.removing => Err(Denied::NotRunning),
            result => result,
        };
        let client = self.shim.as_ref().map(|shim| shim.client.clone());
        match (started, client) {
            (Ok(state), Some(client)) => {
                slot.set(state);
                slot.start_waiters.push(answer);
                let id = id.clone();
                self.begin(async move {
                    let result = client.start(id.as_str()).await;
                    Done::Started(id, result)
                });
            }
            (Ok(_), None) => {
                let source = ShimError::Gone {
                    shim: self.record.shim.id.clone(),
                };
                let error = ContainerError::Shim {
                    action: "start",
                    id: id.clone(),
                    source,
                };
                let _ = answer.send(Err(Arc::new(error)));
            }
            (Err(denied), _) => {
                let error = ContainerError::Denied {
                    action: "start",
                    id: id.clone(),
                    denied,
                };
                let _ = answer.send(Err(Arc::new(error)));
            }
        }
    }

    pub(super) fn container_started(&mut self, id: &Id, result: Result<i64, ShimError>) {
        let event = match &result {
            Ok(started_at) => Event::Started(*started_at),
            Err(ShimError::Refused(failure)) => match failure.kind {
                FailureKind::Command { exit_code } => {
                    let message = failure.message.clone();
                    Event::Ended(Exit::start_error(exit_code, message, clock::now()))
                }
                _ => Event::Unstarted,
            },
            Err(_) => Event::Unstarted,
        };
        self.apply(id, event);
        self.save_container(id);
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        let result = result.map(drop).map_err(|source| {
            Arc::new(ContainerError::Shim {
                action: "start",
                id: id.clone(),
                source,
            })
        });
        for waiter in slot.start_waiters.drain(..) {
            let _ = waiter.send(result.clone());
        }
    }

    /// The start that an earlier daemon asked for has come through.
    pub(super) fn container_found_running(&mut self, id: &str, started_at: i64) {
        if let Some(id) = Id::parse(id) {
            self.apply(&id, Event::Start);
            self.apply(&id, Event::Started(started_at));
            self.save_container(&id);
        }
    }

    pub(super) fn container_exited(&mut self, record: ExitRecord) {
        let Some(id) = Id::parse(&record.id) else {
            return;
        };
        // News of an end may overtake the end of the container's own creation.
        match self.creations.iter_mut().find(|made| made.id == id) {
            Some(creation) => creation.exit = Some(record),
            None => self.apply(&id, Event::Ended(record.into())),
        }
    }

    pub(super) fn stop_container(
        &mut self,
        id: &Id,
        grace: Duration,
        answer: Answer<(), ContainerError>,
    ) {
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        if slot.view.state.exit().is_some() {
            let _ = answer.send(Ok(()));
            return;
        }
        slot.stop_waiters.push(answer);
        // What nobody has let run cannot end in an orderly way.
        let orderly = !matches!(slot.view.state, State::Created { .. });
        let grace = if orderly { grace } else { Duration::ZERO };
        let (stop, action) = slot.stop.request(Instant::now(), grace);
        slot.stop = stop;
        self.act(id, action);
    }

    pub(super) fn tick(&mut self, now: Instant) {
        let ids: Vec<Id> = self.containers.keys().cloned().collect();
        for id in ids {
            let Some(slot) = self.containers.get_mut(&id) else {
                continue;
            };
            let (stop, action) = slot.stop.tick(now);
            slot.stop = stop;
            self.act(&id, action);
        }
    }

    fn act(&mut self, id: &Id, action: Option<Action>) {
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        let (signal, all) = match action {
            None => return,
            Some(Action::Ask) => (slot.view.facts.stop_signal, false),
            Some(Action::Kill) => (SIGKILL, true),
            Some(Action::GiveUp) => {
                let seconds = crate::container::stop::PATIENCE.as_secs();
                slot.stop_failed(ContainerError::Undead {
                    id: id.clone(),
                    seconds,
                });
                return;
            }
        };
        // Without a shim its end is being dealt with, and with it the container's.
        let Some(client) = self.client() else { return };
        let id = id.clone();
        self.begin(async move {
            let result = client.kill(id.as_str(), signal, all).await;
            Done::Signalled(id, result)
        });
    }

    pub(super) fn container_signalled(&mut self, id: &Id, result: Result<(), ShimError>) {
        let Err(source) = result else { return };
        let ended = matches!(
            source.refusal(),
            Some(FailureKind::NotFound | FailureKind::InvalidState)
        );
        // One that has ended, and a shim that has, are heard of soon.
        if ended || source.is_gone() {
            return;
        }
        if let Some(slot) = self.containers.get_mut(id) {
            slot.stop_failed(ContainerError::Shim {
                action: "stop",
                id: id.clone(),
                source,
            });
        }
    }

    pub(super) fn remove_container(&mut self, id: &Id, answer: Answer<(), ContainerError>) {
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        slot.remove_waiters.push(answer);
        if !slot.removing {
            self.begin_container_removal(id);
        }
    }

    pub(super) fn begin_container_removal(&mut self, id: &Id) {
        let client = self.client();
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        slot.removing = true;
        let cgroup = slot.view.facts.cgroup.clone();
        let daemon = Arc::clone(&self.daemon);
        let id = id.clone();
        self.begin(async move {
            let failed = |source| ContainerError::Shim {
                action: "delete",
                id: id.clone(),
                source,
            };
            let deleted = match client {
                Some(client) => client
                    .delete(id.as_str())
                    .await
                    .or_else(|e| if e.is_gone() { Ok(()) } else { Err(failed(e)) }),
                None => Ok(()),
            };
            let result = match deleted {
                Ok(()) => remove_remains(&daemon, &id, cgroup).await,
                Err(error) => Err(error),
            };
            Done::Removed(id, result)
        });
    }

    pub(super) fn container_removed(&mut self, id: &Id, result: Result<(), ContainerError>) {
        match result {
            Ok(()) => {
                let Some(slot) = self.containers.remove(id) else {
                    return;
                };
                self.daemon.store.forget_container(id);
                self.publish();
                for waiter in slot.stop_waiters.into_iter().chain(slot.remove_waiters) {
                    let _ = waiter.send(Ok(()));
                }
                self.advance_removal();
            }
            Err(error) => {
                let error = Arc::new(error);
                if let Some(slot) = self.containers.get_mut(id) {
                    slot.removing = false;
                    for waiter in slot.remove_waiters.drain(..) {
                        let _ = waiter.send(Err(Arc::clone(&error)));
                    }
                }
                self.fail_removal_by(ContainerError::Shared(error));
            }
        }
    }

    /// Enters the end of a container that nobody tells of: from its exit record, or as nobody
    /// knows it.
    pub(super) fn settle_exit(&mut self, id: &Id, unknown: fn(Option<i64>, i64) -> Exit) {
        let path = self.daemon.layout.container(id).join(EXIT_RECORD);
        let recorded = crate::container::record::read_exit(&path);
        let started_at = match self.containers.get(id).map(|slot| &slot.view.state) {
            Some(State::Running { started_at, .. }) => Some(*started_at),
            _ => None,
        };
        let known = recorded.is_some();
        let exit = recorded.unwrap_or_else(|| unknown(started_at, clock::now()));
        self.apply(id, Event::Ended(exit));
        if !known {
            self.save_container(id);
        }
    }

    /// Applies an event to a container and publishes it; answers those who wait for its end.
    fn apply(&mut self, id: &Id, event: Event) {
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        match step(&slot.view.state, event) {
            Ok(state) => slot.set(state),
            Err(denied) => {
                tracing::warn!(container = %id, %denied, "event passed over");
                return;
            }
        }
        let ended = slot.view.state.exit().is_some();
        if let Some(exit) = slot.view.state.exit() {
            let (code, reason) = (exit.code, &exit.reason);
            tracing::info!(container = %id, pod = %self.record.id, code, reason, "ended");
        }
        let waiters = if ended {
            std::mem::take(&mut slot.stop_waiters)
        } else {
            Vec::new()
        };
        if ended {
            slot.stop = Stop::Idle;
        }
        self.publish();
        for waiter in waiters {
            let _ = waiter.send(Ok(()));
        }
    }

    fn save_container(&self, id: &Id) {
        let Some(slot) = self.containers.get(id) else {
            return;
        };
        let record = slot
            .view
            .facts
            .record(&self.daemon.boot_id, &slot.view.state);
        if let Err(error) = record.write(&self.daemon.layout) {
            let error = crate::telemetry::chain(&error);
            tracing::error!(container = %id, error, "the container's record cannot be written");
        }
    }
}

enum Admission {
    New(Id),
    Join(usize),
    Exists(Id),
}

impl Slot {
    fn set(&mut self, state: State) {
        let facts = Arc::clone(&self.view.facts);
        self.view = Arc::new(ContainerView { facts, state });
    }

    fn stop_failed(&mut self, error: ContainerError) {
        self.stop = Stop::Idle;
        let error = Arc::new(error);
        for waiter in self.stop_waiters.drain(..) {
            let _ = waiter.send(Err(Arc::clone(&error)));
        }
    }
}

async fn remove_remains(
    daemon: &crate::daemon::Daemon,
    id: &Id,
    cgroup: std::path::PathBuf,
) -> Result<(), ContainerError> {
    let emptied = cgroup::kill(&cgroup)
        .await
        .map_err(|source| ContainerError::File {
            action: "empty cgroup",
            path: cgroup,
            source,
        })?;
    if !emptied {
        let seconds = cgroup::PATIENCE.as_secs();
        return Err(ContainerError::Undead {
            id: id.clone(),
            seconds,
        });
    }
    create::give_back(daemon, id)
}
