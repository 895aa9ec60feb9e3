//! The task that owns a pod: the one place where the pod and its containers change.
//!
//! It takes commands from RPCs, events from the shim and the results of its own work one at a
//! time, and publishes a view after each change and before anyone is answered.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use skiff_cri::v1 as cri;
use skiff_shim_proto::message::Event as ShimNews;
use skiff_shim_proto::record::ExitRecord;
use tokio::sync::{mpsc, oneshot, watch};

use super::error::PodError;
use super::link::Link;
use super::record::PodRecord;
use super::resources::{Updated, Updates};
use super::start::{Failed, Plan, Started};
use super::state::State;
use super::view::{Facts, PodView, ShimView};
use crate::container::stop::Stop;
use crate::container::{self, ContainerError, ContainerView};
use crate::daemon::Daemon;
use crate::id::Id;
use crate::listed::Listed;
use crate::shim::connect::Found;
use crate::shim::{ShimError, ShimEvent};
use crate::store::PodName;
use crate::telemetry::Timeline;

/// Where an answer goes. Errors are shared because several requests may wait for one operation.
pub type Answer<T, E> = oneshot::Sender<Result<T, Arc<E>>>;

/// What a pod's task can be asked.
#[derive(Debug)]
pub enum Command {
    /// Kill the containers and give back the network.
    Stop(Answer<(), PodError>),
    /// Stop it and remove it with its containers.
    Remove(Answer<(), PodError>),
    /// Make a container; answered with its id.
    Create(
        Box<cri::ContainerConfig>,
        Timeline,
        Answer<Id, ContainerError>,
    ),
    /// Let a container run.
    StartContainer(Id, Timeline, Answer<(), ContainerError>),
    /// End a container within a time.
    StopContainer(Id, Duration, Answer<(), ContainerError>),
    /// Remove a container, by force when it runs.
    RemoveContainer(Id, Answer<(), ContainerError>),
    /// Change a container's limits.
    UpdateContainer(
        Id,
        Box<cri::LinuxContainerResources>,
        Answer<(), ContainerError>,
    ),
}

/// What everyone else holds of a pod.
#[derive(Debug)]
pub struct PodHandle {
    facts: Arc<Facts>,
    name: PodName,
    commands: mpsc::UnboundedSender<Command>,
    view: ArcSwap<PodView>,
    started: watch::Sender<Option<Result<(), Arc<PodError>>>>,
}

impl PodHandle {
    /// A handle, and the inbox for the pod's task.
    pub fn new(facts: Arc<Facts>) -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        let (commands, inbox) = mpsc::unbounded_channel();
        let view = PodView {
            facts: Arc::clone(&facts),
            state: State::Starting,
            holding: false,
            ips: Vec::new(),
            netns: None,
            cgroup_parent: PathBuf::new(),
            shim: None,
            reason: None,
            containers: BTreeMap::new(),
            listed: Listed::default(),
        };
        let handle = Self {
            name: facts.metadata().into(),
            facts,
            commands,
            view: ArcSwap::from_pointee(view),
            started: watch::Sender::new(None),
        };
        (Arc::new(handle), inbox)
    }

    /// Pod id.
    pub fn id(&self) -> &Id {
        &self.facts.id
    }

    /// What does not change.
    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// Its own ids, when it has a user namespace.
    pub fn user_namespace(&self) -> Option<skiff_spec::UserNamespace> {
        let namespaces = skiff_spec::pod_namespaces(&self.facts.config);
        namespaces.ok().and_then(|namespaces| namespaces.user)
    }

    /// What a kubelet names it by.
    pub fn name(&self) -> &PodName {
        &self.name
    }

    /// The pod as it is.
    pub fn view(&self) -> Arc<PodView> {
        self.view.load_full()
    }

    /// Lets readers see the pod so; returns how they saw it before.
    pub(crate) fn show(&self, view: impl Into<Arc<PodView>>) -> Arc<PodView> {
        self.view.swap(view.into())
    }

    /// Waits until the pod is ready or could not be started.
    pub async fn started(&self) -> Result<(), Arc<PodError>> {
        let mut started = self.started.subscribe();
        match started
            .wait_for(Option::is_some)
            .await
            .map(|result| result.clone())
        {
            Ok(Some(result)) => result,
            // The sender is part of this handle.
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Asks the pod's task; `None` when the pod, or the container asked about, has been removed.
    pub async fn ask<T, E>(
        &self,
        command: impl FnOnce(Answer<T, E>) -> Command,
    ) -> Option<Result<T, Arc<E>>> {
        let (sender, answer) = oneshot::channel();
        self.commands.send(command(sender)).ok()?;
        answer.await.ok()
    }
}

/// Makes a pod and lives its life.
pub async fn run_new(
    daemon: Arc<Daemon>,
    handle: Arc<PodHandle>,
    plan: Plan,
    inbox: mpsc::UnboundedReceiver<Command>,
) {
    match plan.run(&daemon).await {
        Ok(Started { record, shim }) => {
            let (id, pid) = (&record.id, record.shim.process.pid);
            let cri::PodSandboxMetadata {
                namespace, name, ..
            } = handle.facts().metadata();
            tracing::info!(pod = %id, namespace, name, shim = shim.id, pid, "started");
            let task = PodTask::new(daemon, Arc::clone(&handle), inbox, record, shim.into());
            task.publish();
            handle.started.send_replace(Some(Ok(())));
            task.live().await;
        }
        Err(Failed { error, left: None }) => {
            daemon.store.forget(handle.name(), handle.id());
            handle.started.send_replace(Some(Err(Arc::new(error))));
        }
        // Clients see it as a pod that is not ready, and have it stopped and removed.
        Err(Failed {
            error,
            left: Some(Started { record, shim }),
        }) => {
            let error = Arc::new(error);
            let mut task = PodTask::new(daemon, Arc::clone(&handle), inbox, record, shim.into());
            task.reason = Some(format!(
                "it could not be started: {}",
                crate::telemetry::chain(&*error)
            ));
            task.save();
            task.publish();
            handle.started.send_replace(Some(Err(error)));
            task.live().await;
        }
    }
}

/// One container of the pod.
pub(super) struct Slot {
    pub(super) view: Arc<ContainerView>,
    pub(super) stop: Stop,
    pub(super) removing: bool,
    /// What its dead shim left of it is being killed.
    pub(super) burying: bool,
    /// Its end is in no record yet: neither in the shim's nor in its own.
    pub(super) unsaved: bool,
    pub(super) start_waiters: Vec<Answer<(), ContainerError>>,
    pub(super) stop_waiters: Vec<Answer<(), ContainerError>>,
    pub(super) remove_waiters: Vec<Answer<(), ContainerError>>,
    pub(super) updates: Updates,
}

impl Slot {
    pub(super) fn new(view: ContainerView) -> Self {
        Self {
            view: Arc::new(view),
            stop: Stop::Idle,
            removing: false,
            burying: false,
            unsaved: false,
            start_waiters: Vec::new(),
            stop_waiters: Vec::new(),
            remove_waiters: Vec::new(),
            updates: Updates::default(),
        }
    }
}

/// A container that is being made.
pub(super) struct Creation {
    pub(super) id: Id,
    pub(super) config: cri::ContainerConfig,
    pub(super) waiters: Vec<Answer<Id, ContainerError>>,
    /// Its end, when that was heard of first.
    pub(super) exit: Option<ExitRecord>,
}

/// What the task's own work has come to.
pub(super) enum Done {
    Created(
        Id,
        Result<(Arc<container::Facts>, container::State), ContainerError>,
    ),
    Started(Id, Result<i64, ShimError>),
    Signalled(Id, Result<(), ShimError>),
    Removed(Id, Result<(), ContainerError>),
    Updated(Id, Updated),
    Stopped(Result<(), PodError>),
    /// What the dead shim left of the pod itself, or of a container.
    Buried(Option<Id>, Result<(), PodError>),
    /// The search for the shim.
    Sought(Option<Box<Found>>),
}

enum Input {
    Command(Command),
    Shim(ShimEvent),
    Done(Done),
    Tick,
}

/// The state of one pod's task.
pub struct PodTask {
    pub(super) daemon: Arc<Daemon>,
    pub(super) handle: Arc<PodHandle>,
    inbox: mpsc::UnboundedReceiver<Command>,
    pub(super) record: PodRecord,
    pub(super) link: Link,
    /// Why the pod is not as it should be.
    pub(super) reason: Option<String>,
    /// When to write again what could not be written.
    pub(super) save_at: Option<Instant>,
    pub(super) containers: BTreeMap<Id, Slot>,
    pub(super) creations: Vec<Creation>,
    work: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    pub(super) stop_waiters: Vec<Answer<(), PodError>>,
    /// Those who wait for the pod to be removed, once somebody does.
    pub(super) removal: Option<Vec<Answer<(), PodError>>>,
    /// The pod has been removed; the task ends.
    pub(super) gone: bool,
}

impl PodTask {
    /// The task of a pod as its record has it.
    pub fn new(
        daemon: Arc<Daemon>,
        handle: Arc<PodHandle>,
        inbox: mpsc::UnboundedReceiver<Command>,
        record: PodRecord,
        link: Link,
    ) -> Self {
        Self {
            daemon,
            handle,
            inbox,
            record,
            link,
            reason: None,
            save_at: None,
            containers: BTreeMap::new(),
            creations: Vec::new(),
            work: FuturesUnordered::new(),
            stop_waiters: Vec::new(),
            removal: None,
            gone: false,
        }
    }

    /// Enters a container of an earlier daemon.
    pub fn adopt_container(&mut self, view: ContainerView) {
        let id = view.facts.id.clone();
        self.daemon
            .store
            .add_container(id.clone(), Arc::clone(&self.handle));
        self.containers.insert(id, Slot::new(view));
    }

    /// Lives the life of a pod that an earlier daemon made. It is published at once, not when the
    /// future is first polled: recovery removes what no published pod has.
    pub fn resume(mut self) -> impl Future<Output = ()> + Send {
        if matches!(self.link, Link::Gone) {
            self.bury_all();
        }
        self.publish();
        self.handle.started.send_replace(Some(Ok(())));
        self.live()
    }

    async fn live(mut self) {
        while !self.gone {
            match self.next().await {
                Input::Command(command) => self.command(command),
                Input::Shim(ShimEvent::Event(event)) => self.shim_news(event),
                Input::Shim(ShimEvent::Closed) => self.hung_up(),
                Input::Done(done) => self.done(done),
                Input::Tick => self.tick(Instant::now()),
            }
        }
    }

    async fn next(&mut self) -> Input {
        let deadlines = self
            .containers
            .values()
            .filter_map(|slot| slot.stop.deadline());
        let deadline = deadlines.chain(self.save_at).min();
        let Self {
            inbox, link, work, ..
        } = self;
        tokio::select! {
            Some(done) = work.next() => Input::Done(done),
            event = link.event() => Input::Shim(event),
            Some(command) = inbox.recv() => Input::Command(command),
            () = until(deadline) => Input::Tick,
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Stop(answer) => self.stop(answer),
            Command::Remove(answer) => self.remove(answer),
            Command::Create(config, timeline, answer) => {
                self.create_container(*config, timeline, answer);
            }
            Command::StartContainer(id, timeline, answer) => {
                self.start_container(&id, timeline, answer);
            }
            Command::StopContainer(id, grace, answer) => self.stop_container(&id, grace, answer),
            Command::RemoveContainer(id, answer) => self.remove_container(&id, answer),
            Command::UpdateContainer(id, change, answer) => {
                self.update_container(&id, *change, answer);
            }
        }
    }

    pub(super) fn shim_news(&mut self, event: ShimNews) {
        match event {
            ShimNews::Started { id, started_at } => self.container_found_running(&id, started_at),
            ShimNews::Exited(record) => self.container_exited(record),
            ShimNews::Warning { id, message } => {
                tracing::warn!(pod = %self.record.id, container = id, message, "shim warns");
            }
            ShimNews::Broken { reason } => self.broken(reason),
            ShimNews::Ready { .. } => {}
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Created(id, result) => self.container_created(&id, result),
            Done::Started(id, result) => self.container_started(&id, result),
            Done::Signalled(id, result) => self.container_signalled(&id, result),
            Done::Removed(id, result) => self.container_removed(&id, result),
            Done::Updated(id, updated) => self.container_updated(&id, updated),
            Done::Stopped(result) => self.stopped(result),
            Done::Buried(id, result) => self.buried(id, result),
            Done::Sought(found) => self.sought(found.map(|found| *found)),
        }
    }

    /// Polls `work` beside the inbox until it is done.
    pub(super) fn begin(&self, work: impl Future<Output = Done> + Send + 'static) {
        self.work.push(Box::pin(work));
    }

    /// Lets readers see the pod as it is now.
    pub(super) fn publish(&self) {
        let containers = self.containers.iter();
        let view = PodView {
            facts: Arc::clone(self.handle.facts()),
            state: self.record.state,
            holding: self.record.holding && self.record.boot_id == self.daemon.boot_id,
            ips: self.record.ips.clone(),
            netns: self.record.netns.clone(),
            cgroup_parent: self.record.cgroup_parent.clone(),
            shim: match &self.link {
                Link::Gone => None,
                Link::Up(_) | Link::Sought => Some(ShimView {
                    id: self.record.shim.id.clone(),
                    pid: self.record.shim.process.pid,
                    client: self.client().ok(),
                }),
            },
            reason: match self.client() {
                Err(error @ ShimError::Unreached { .. }) => Some(error.to_string()),
                _ => self.reason.clone(),
            },
            containers: containers
                .map(|(id, slot)| (id.clone(), slot.view.clone()))
                .collect(),
            listed: Listed::default(),
        };
        let view = Arc::new(view);
        let before = self.handle.show(Arc::clone(&view));
        let daemon = &self.daemon;
        daemon.events.changed(&before, &view, &daemon.store);
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
