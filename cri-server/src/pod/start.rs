//! The steps that make a pod, each undoing itself and those before it.
//!
//! ```text
//!  take a shim     record, Adopt     CNI ADD         files, record
//!  ───────────> Taken ──────> Adopted ──────> Networked ──────────> Recorded
//! ```
//!
//! The record is written before the shim is adopted and names all that is going to be made, so a
//! daemon that dies between two steps leaves nothing that the next one does not know of.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use skiff_cri::v1 as cri;
use skiff_shim_proto::message::Adopt;
use skiff_spec::{SpecError, check_sandbox, pod_namespaces, pod_sysctls};

use super::error::PodError;
use super::files::{self, FilesError};
use super::record::{PodRecord, ShimRecord};
use super::state::State;
use super::stop::{Remains, discard, give_back};
use super::view::Facts;
use crate::cgroup;
use crate::daemon::Daemon;
use crate::shim::Shim;

/// What a pod is going to be: the request, checked.
pub struct Plan {
    facts: Arc<Facts>,
    adopt: Adopt,
    cgroup_parent: PathBuf,
    hostname: String,
}

/// A pod that stands.
pub struct Started {
    /// As it is on disk.
    pub record: PodRecord,
    /// Its shim.
    pub shim: Shim,
}

impl Plan {
    /// Checks a request.
    pub fn new(daemon: &Daemon, facts: Arc<Facts>) -> Result<Self, SpecError> {
        let config = &facts.config;
        check_sandbox(config, &daemon.features)?;
        let namespaces = pod_namespaces(config)?;
        let sysctls = pod_sysctls(config, &daemon.config.container.default_sysctls)?;
        let requested = config
            .linux
            .as_ref()
            .map_or("", |linux| &linux.cgroup_parent);
        let cgroup_parent = cgroup::parent(requested, &facts.id).ok_or_else(|| {
            let reason = format!("{requested:?} leads out of the cgroup hierarchy");
            SpecError::invalid("linux.cgroup_parent", reason)
        })?;
        let hostname = if namespaces.host_network {
            files::host_name()
        } else {
            files::pod_hostname(config)
        };
        let own_network = !namespaces.host_network;
        let init_cgroup = daemon
            .cgroup_root
            .join(&cgroup_parent)
            .join(cgroup::name(&facts.id));
        let adopt = Adopt {
            pod_id: facts.id.to_string(),
            netns: own_network.then(|| daemon.layout.netns(&facts.id)),
            hostname: own_network.then(|| hostname.clone()),
            host_ipc: namespaces.host_ipc,
            shared_pid: namespaces.shared_pid,
            init_cgroup: namespaces.shared_pid.then_some(init_cgroup),
            sysctls,
            shm_size: daemon.config.container.shm_size.bytes(),
        };
        Ok(Self {
            facts,
            adopt,
            cgroup_parent,
            hostname,
        })
    }

    /// Carries the plan out.
    pub async fn run(self, daemon: &Daemon) -> Result<Started, PodError> {
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
    async fn take(daemon: &Daemon, plan: Plan) -> Result<Self, PodError> {
        let failed = |source| PodError::Shim {
            action: "find a shim for",
            id: plan.facts.id.clone(),
            source,
        };
        let shim = daemon.pool.take().await.map_err(failed)?;
        Ok(Self { plan, shim })
    }

    async fn adopt(self, daemon: &Daemon) -> Result<Adopted, PodError> {
        let Self { plan, shim } = self;
        let facts = &plan.facts;
        let record = PodRecord {
            boot_id: daemon.boot_id.clone(),
            id: facts.id.clone(),
            created_at: facts.created_at,
            runtime_handler: facts.runtime_handler.clone(),
            shim: ShimRecord {
                id: shim.id.clone(),
                process: shim.process.id,
            },
            init_pid: None,
            netns: plan.adopt.netns.clone(),
            holding: true,
            ips: Vec::new(),
            cgroup_parent: plan.cgroup_parent.clone(),
            state: State::Starting,
        };
        let mut adopted = Adopted { plan, shim, record };
        let config = &adopted.plan.facts.config;
        if let Err(error) = adopted.record.create(&daemon.layout, config) {
            return Err(adopted.fail(daemon, error.into()).await);
        }
        match adopted.shim.client.adopt(adopted.plan.adopt.clone()).await {
            Ok(init_pid) => {
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
    async fn attach(self, daemon: &Daemon) -> Result<Networked, PodError> {
        let Some(netns) = self.record.netns.clone() else {
            return Ok(Networked {
                adopted: self,
                ips: None,
            });
        };
        let attached = match network_pod(&self.plan, netns) {
            Ok(pod) => daemon
                .cni
                .setup(&pod)
                .await
                .map_err(|source| PodError::Network {
                    action: "set up",
                    id: self.record.id.clone(),
                    source: Box::new(source),
                }),
            Err(source) => Err(self.plan.refused(source)),
        };
        match attached {
            Ok(attachment) => Ok(Networked {
                adopted: self,
                ips: Some(attachment.ips),
            }),
            Err(error) => Err(self.fail(daemon, error).await),
        }
    }

    /// Undoes everything and returns the error, with what could not be undone.
    async fn fail(self, daemon: &Daemon, error: PodError) -> PodError {
        let remains = Remains::of(&self.record, Some(self.shim.client), daemon);
        match give_back(daemon, remains).await {
            Ok(()) => {
                cgroup::remove_own(
                    &daemon.cgroup_root,
                    &self.record.cgroup_parent,
                    &self.record.id,
                );
                discard(&daemon.layout, &self.record.id);
            }
            // The record stays, so the next start of the daemon tries again.
            Err(undo) => tracing::error!(
                pod = %self.record.id,
                error = crate::telemetry::chain(&undo),
                "a pod that could not be started could not be undone either"
            ),
        }
        error
    }
}

impl Networked {
    async fn record(self, daemon: &Daemon) -> Result<Started, PodError> {
        let Self { mut adopted, ips } = self;
        let dir = daemon.layout.pod_files(&adopted.record.id);
        let plan = &adopted.plan;
        let written = files::write(&dir, &plan.facts.config, &plan.hostname, ips.as_deref());
        adopted.record.ips = ips.unwrap_or_default();
        adopted.record.state = State::Ready;
        let result = match written {
            Ok(()) => adopted.record.write(&daemon.layout).map_err(PodError::from),
            Err(FilesError::Value(source)) => Err(plan.refused(source)),
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
        cgroup_parent: Some(format!("/{}", plan.cgroup_parent.display())),
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
