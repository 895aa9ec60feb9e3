//! The steps that make a pod, each undoing itself and those before it.
//!
//! ```text
//!  take a shim     record, Adopt    CNI ADD, scope   files, record
//!  ───────────> Taken ──────> Adopted ──────> Networked ──────────> Recorded
//! ```
//!
//! The record is written before the shim is adopted and names all that is going to be made, so a
//! daemon that dies between two steps leaves nothing that the next one does not know of.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use skiff_cri::v1 as cri;
use skiff_shim_proto::message::{Adopt, UserNamespace};
use skiff_spec::{SpecError, check_sandbox, check_user_namespace, pod_namespaces, pod_sysctls};

use super::error::PodError;
use super::files::{self, FilesError};
use super::record::{PodRecord, ShimRecord};
use super::state::{Event, State};
use super::stop::{Remains, discard, give_back};
use super::view::Facts;
use crate::cgroup;
use crate::cgroup_driver::Place;
use crate::daemon::Daemon;
use crate::handler::Handler;
use crate::shim::Shim;
use crate::shim::pool::Kind;
use crate::telemetry::{NetworkOperation, Phase, Timeline};

/// What a pod is going to be: the request, checked.
pub struct Plan {
    facts: Arc<Facts>,
    adopt: Adopt,
    place: Place,
    hostname: String,
    timeline: Timeline,
}

/// Why there is no pod, and what there is of it all the same.
pub struct Failed {
    /// What went wrong first.
    pub error: PodError,
    /// What could not be given back: a network, most likely, and the shim that holds it.
    pub left: Option<Started>,
}

/// A pod that stands, or what is left of one.
pub struct Started {
    /// As it is on disk.
    pub record: PodRecord,
    /// Its shim.
    pub shim: Shim,
}

impl Plan {
    /// Checks a request.
    pub fn new(daemon: &Daemon, facts: Arc<Facts>, handler: &Handler) -> Result<Self, SpecError> {
        let config = &facts.config;
        check_sandbox(config, &daemon.features)?;
        handler.check(config)?;
        let namespaces = pod_namespaces(config)?;
        check_user_namespace(namespaces.user.as_ref(), &daemon.features)?;
        handler.check_user_namespace(&namespaces)?;
        let user_namespace = namespaces.user.map(|user| {
            let mapping = user.mapping()?;
            Ok::<_, SpecError>(UserNamespace {
                uid_mappings: vec![mapping],
                gid_mappings: vec![mapping],
            })
        });
        let sysctls = pod_sysctls(config, &handler.sysctls)?;
        let requested = config
            .linux
            .as_ref()
            .map_or("", |linux| &linux.cgroup_parent);
        let driver = &daemon.cgroup_driver;
        let place = driver
            .place(requested, &facts.id)
            .map_err(|reason| SpecError::invalid("linux.cgroup_parent", reason))?;
        let hostname = if namespaces.host_network {
            files::host_name()
        } else {
            files::pod_hostname(config)
        };
        let own_network = !namespaces.host_network;
        let init_cgroup = daemon
            .cgroup_root
            .join(&place.path)
            .join(cgroup::name(&facts.id));
        let adopt = Adopt {
            pod_id: facts.id.to_string(),
            netns: own_network.then(|| daemon.layout.netns(&facts.id)),
            hostname: own_network.then(|| hostname.clone()),
            host_ipc: namespaces.host_ipc,
            shared_pid: namespaces.shared_pid || driver.needs_init(),
            // In the other case it is moved there when that is made.
            init_cgroup: (!driver.needs_init()).then_some(init_cgroup),
            user_namespace: user_namespace.transpose()?,
            sysctls,
            shm_size: handler.shm_size,
            mount_label: facts.files_label(),
            external: handler.external_for(&facts.id).map(Box::new),
        };
        Ok(Self {
            facts,
            adopt,
            place,
            hostname,
            timeline: Timeline::of_call(&daemon.telemetry),
        })
    }

    /// Carries the plan out.
    pub async fn run(self, daemon: &Daemon) -> Result<Started, Failed> {
        let taken = Taken::take(daemon, self).await?;
        let adopted = taken.adopt(daemon).await?;
        let networked = adopted.attach(daemon).await?;
        networked.record(daemon).await
    }
}

struct Taken {
    plan: Plan,
    shim: Shim,
}

struct Adopted {
    plan: Plan,
    shim: Shim,
    record: PodRecord,
}

struct Networked {
    adopted: Adopted,
    ips: Option<Vec<IpAddr>>,
}

impl Taken {
    async fn take(daemon: &Daemon, plan: Plan) -> Result<Self, Failed> {
        let failed = |source| Failed {
            error: PodError::Shim {
                action: "find a shim for",
                id: plan.facts.id.clone(),
                source,
            },
            left: None,
        };
        let kind = match plan.adopt.user_namespace {
            Some(_) => Kind::UserNamespace,
            None => Kind::Plain,
        };
        let began = Instant::now();
        let shim = daemon.pool.take(kind).await.map_err(failed)?;
        plan.timeline.ended(Phase::Spare, began);
        Ok(Self { plan, shim })
    }

    async fn adopt(self, daemon: &Daemon) -> Result<Adopted, Failed> {
        let Self { plan, shim } = self;
        let facts = &plan.facts;
        let record = PodRecord {
            boot_id: daemon.boot_id.clone(),
            id: facts.id.clone(),
            created_at: facts.created_at,
            runtime_handler: facts.runtime_handler.clone(),
            external: plan.adopt.external.as_deref().cloned(),
            shim: ShimRecord {
                id: shim.id.clone(),
                process: shim.process.id,
            },
            init_pid: None,
            netns: plan.adopt.netns.clone(),
            holding: true,
            ips: Vec::new(),
            cgroup_parent: plan.place.path.clone(),
            labels: facts.recorded_labels(),
            state: State::Starting,
        };
        let mut adopted = Adopted { plan, shim, record };
        let config = &adopted.plan.facts.config;
        if let Err(error) = adopted.record.create(&daemon.layout, config) {
            return Err(adopted.fail(daemon, error.into()).await);
        }
        let began = Instant::now();
        match adopted.shim.client.adopt(adopted.plan.adopt.clone()).await {
            Ok((init_pid, took)) => {
                if let Some(took) = took {
                    adopted.plan.timeline.took(Phase::Netns, began, took);
                }
                adopted.record.init_pid = init_pid;
                Ok(adopted)
            }
            Err(source) => {
                let id = adopted.record.id.clone();
                let error = PodError::Shim {
                    action: "make the namespaces of",
                    id,
                    source,
                };
                Err(adopted.fail(daemon, error).await)
            }
        }
    }
}

impl Adopted {
    /// The pod is complete: a client may be told of it from now on.
    fn write_last_record(&mut self, daemon: &Daemon) -> Result<(), PodError> {
        let id = self.record.id.clone();
        let started = self.record.step(Event::Started);
        started.map_err(|denied| PodError::Denied { id, denied })?;
        Ok(self.record.write(&daemon.layout)?)
    }

    /// Makes the network and the place for cgroups, at the same time.
    async fn attach(self, daemon: &Daemon) -> Result<Networked, Failed> {
        let (ips, placed) = tokio::join!(self.network(daemon), self.place(daemon));
        match placed.and(ips) {
            Ok(ips) => Ok(Networked { adopted: self, ips }),
            Err(error) => Err(self.fail(daemon, error).await),
        }
    }

    /// The pod's addresses; `None` in the host's network.
    async fn network(&self, daemon: &Daemon) -> Result<Option<Vec<IpAddr>>, PodError> {
        let Some(netns) = self.record.netns.clone() else {
            return Ok(None);
        };
        let pod = network_pod(&self.plan, netns).map_err(|source| self.plan.refused(source))?;
        let began = Instant::now();
        let attached = daemon.cni.setup(&pod).await;
        let metrics = &daemon.telemetry.metrics;
        metrics
            .network(NetworkOperation::Add)
            .done(began, &attached);
        self.plan.timeline.ended(Phase::Cni, began);
        let attachment = attached.map_err(|source| PodError::Network {
            action: "set up",
            id: self.record.id.clone(),
            source: Box::new(source),
        })?;
        Ok(Some(attachment.ips))
    }

    async fn place(&self, daemon: &Daemon) -> Result<(), PodError> {
        let (id, init) = (&self.record.id, self.record.init_pid);
        let driver = &daemon.cgroup_driver;
        let made = driver.make(&daemon.cgroup_root, &self.plan.place, id, init);
        made.await.map_err(|source| PodError::Scope {
            id: id.clone(),
            source,
        })
    }

    /// Undoes everything and returns the error, with what could not be undone.
    async fn fail(self, daemon: &Daemon, error: PodError) -> Failed {
        let Self {
            mut record, shim, ..
        } = self;
        let remains = Remains::of(&record, Some(shim.client.clone()), daemon);
        let given_back = give_back(daemon, remains).await;
        let undone = given_back.and_then(|()| discard(&daemon.layout, &record.id));
        let Err(undo) = undone else {
            cgroup::remove_own(&daemon.cgroup_root, &record.cgroup_parent, &record.id);
            return Failed { error, left: None };
        };
        tracing::error!(
            pod = %record.id,
            error = crate::telemetry::chain(&undo),
            "a pod that could not be started could not be undone either"
        );
        if let Err(denied) = record.step(Event::Failed) {
            tracing::error!(pod = %record.id, %denied, "event passed over");
        }
        let left = Some(Started { record, shim });
        Failed { error, left }
    }
}

impl Networked {
    async fn record(self, daemon: &Daemon) -> Result<Started, Failed> {
        let Self { mut adopted, ips } = self;
        let dir = daemon.layout.pod_files(&adopted.record.id);
        let plan = &adopted.plan;
        let written = files::write(
            &dir,
            &plan.facts.config,
            &plan.hostname,
            ips.as_deref(),
            plan.facts.files_label().as_deref(),
        );
        adopted.record.ips = ips.unwrap_or_default();
        let result = match written {
            Ok(()) => adopted.write_last_record(daemon),
            Err(FilesError::Value(source)) => Err(plan.refused(source)),
            Err(FilesError::Label(source)) => Err(PodError::Label {
                id: adopted.record.id.clone(),
                source,
            }),
            Err(FilesError::Write(path, source)) => Err(PodError::File {
                action: "write",
                path,
                source,
            }),
        };
        match result {
            Ok(()) => Ok(Started {
                record: adopted.record,
                shim: adopted.shim,
            }),
            Err(error) => Err(adopted.fail(daemon, error).await),
        }
    }
}

impl Plan {
    fn refused(&self, source: SpecError) -> PodError {
        refused(&self.facts.metadata(), source)
    }
}

/// The error for a pod's request that is refused.
pub fn refused(metadata: &cri::PodSandboxMetadata, source: SpecError) -> PodError {
    let cri::PodSandboxMetadata {
        namespace, name, ..
    } = metadata.clone();
    PodError::Spec {
        namespace,
        name,
        source,
    }
}

fn network_pod(plan: &Plan, netns: PathBuf) -> Result<skiff_cni::Pod, SpecError> {
    let config = &plan.facts.config;
    let cri::PodSandboxMetadata {
        name,
        uid,
        namespace,
        ..
    } = plan.facts.metadata();
    let mappings = config.port_mappings.iter().enumerate();
    let port_mappings = mappings
        .map(|(i, mapping)| port_mapping(i, mapping))
        .collect::<Result<_, _>>()?;
    Ok(skiff_cni::Pod {
        id: plan.facts.id.to_string(),
        name,
        namespace,
        uid,
        netns,
        port_mappings,
        annotations: config.annotations.clone(),
        dns: files::dns(config),
        cgroup_parent: Some(format!("/{}", plan.place.path.display())),
    })
}

fn port_mapping(
    index: usize,
    mapping: &cri::PortMapping,
) -> Result<skiff_cni::PortMapping, SpecError> {
    let field = |name: &str| format!("port_mappings[{index}].{name}");
    let port = |name: &str, port: i32| {
        u16::try_from(port)
            .map_err(|_| SpecError::invalid(field(name), format!("{port} is no port number")))
    };
    let protocol = match cri::Protocol::try_from(mapping.protocol) {
        Ok(cri::Protocol::Tcp) => skiff_cni::Protocol::Tcp,
        Ok(cri::Protocol::Udp) => skiff_cni::Protocol::Udp,
        Ok(cri::Protocol::Sctp) => skiff_cni::Protocol::Sctp,
        Err(_) => {
            let reason = format!("{} is no protocol of the CRI", mapping.protocol);
            return Err(SpecError::invalid(field("protocol"), reason));
        }
    };
    let host_ip = match mapping.host_ip.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            SpecError::invalid(field("host_ip"), format!("{text:?} is no IP address"))
        })?),
    };
    Ok(skiff_cni::PortMapping {
        host_port: port("host_port", mapping.host_port)?,
        container_port: port("container_port", mapping.container_port)?,
        protocol,
        host_ip,
    })
}
