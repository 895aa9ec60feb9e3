//! RunPodSandbox: makes a pod.

use std::sync::Arc;
use std::time::Instant;

use skiff_cri::v1::{
    PodSandboxConfig, PodSandboxMetadata, RunPodSandboxRequest, RunPodSandboxResponse,
};

use super::RpcError;
use crate::clock;
use crate::daemon::Daemon;
use crate::handler::{Handler, Handlers};
use crate::id::Id;
use crate::pod::host_ports::HostPort;
use crate::pod::start::{Plan, refused};
use crate::pod::{Facts, PodError, PodHandle, State, task};
use crate::selinux::PodLabels;
use crate::store::Taken;

/// Makes a pod, or joins the request that is making it, or returns the one that stands: a client
/// that lost its answer asks again with the same metadata. The work goes on when the client does
/// not wait for it.
pub async fn handle(
    daemon: &Arc<Daemon>,
    request: RunPodSandboxRequest,
) -> Result<RunPodSandboxResponse, RpcError> {
    let began = Instant::now();
    let config = request.config.ok_or(RpcError::missing("config"))?;
    check_metadata(config.metadata.as_ref())?;
    let (handler, starts) = {
        let handlers = daemon.handlers.load();
        let handler = find_handler(&handlers, &request.runtime_handler)?;
        let name = handlers.name_of(&request.runtime_handler);
        (handler, daemon.telemetry.metrics.pod_starts(name))
    };
    let result = start(daemon, &handler, config, request.runtime_handler).await;
    starts.done(began, &result);
    result
}

async fn start(
    daemon: &Arc<Daemon>,
    handler: &Handler,
    config: PodSandboxConfig,
    runtime_handler: String,
) -> Result<RunPodSandboxResponse, RpcError> {
    daemon.ready().await;
    handler.features.settled().await;
    let id = Id::random().map_err(|e| Arc::new(PodError::Id(e)))?;
    let labels = label(daemon, &config, &id)?;
    let facts = Arc::new(Facts {
        id,
        labels,
        config,
        runtime_handler,
        created_at: clock::now(),
    });
    let plan = Plan::new(daemon, Arc::clone(&facts), handler)
        .map_err(|e| Arc::new(refused(&facts.metadata(), e)))?;
    let (pod, inbox) = PodHandle::new(Arc::clone(&facts));
    let pod = match daemon.store.claim(pod.name(), &pod) {
        Ok(()) => {
            tokio::spawn(task::run_new(
                Arc::clone(daemon),
                Arc::clone(&pod),
                plan,
                inbox,
            ));
            pod
        }
        Err(Taken::Name(holder)) => joined(holder, &facts)?,
        Err(Taken::Ids(holder)) => return Err(in_use(&holder, &facts)),
        Err(Taken::Port(holder, port)) => return Err(port_in_use(&holder, port, &facts)),
    };
    pod.started().await?;
    Ok(RunPodSandboxResponse {
        pod_sandbox_id: pod.id().to_string(),
    })
}

/// The pod that has the name, when it is the one that this request is for.
fn joined(holder: Arc<PodHandle>, facts: &Facts) -> Result<Arc<PodHandle>, RpcError> {
    let theirs = holder.facts();
    let same = theirs.config == facts.config && theirs.runtime_handler == facts.runtime_handler;
    let why = match holder.view().state {
        _ if !same => "made from another configuration",
        State::Starting | State::Ready => return Ok(holder),
        State::Stopping | State::NotReady => "and has been stopped; remove it first",
    };
    let PodSandboxMetadata {
        name,
        namespace,
        attempt,
        ..
    } = facts.metadata();
    let id = holder.id().clone();
    Err(Arc::new(PodError::Exists {
        namespace,
        name,
        attempt,
        id,
        why,
    })
    .into())
}

/// The pod's labels where SELinux is in use.
fn label(
    daemon: &Daemon,
    config: &PodSandboxConfig,
    id: &Id,
) -> Result<Option<PodLabels>, RpcError> {
    let Some(contexts) = daemon.features.selinux.contexts() else {
        return Ok(None);
    };
    let labels = daemon.pairs.label(config, contexts, id);
    let metadata = config.metadata.clone().unwrap_or_default();
    Ok(Some(labels.map_err(|e| Arc::new(refused(&metadata, e)))?))
}

fn in_use(holder: &PodHandle, facts: &Facts) -> RpcError {
    let PodSandboxMetadata {
        name, namespace, ..
    } = facts.metadata();
    let holder = holder.id().clone();
    Arc::new(PodError::HostIds {
        namespace,
        name,
        holder,
    })
    .into()
}

fn port_in_use(holder: &PodHandle, port: HostPort, facts: &Facts) -> RpcError {
    let PodSandboxMetadata {
        name, namespace, ..
    } = facts.metadata();
    let theirs = holder.facts().metadata();
    Arc::new(PodError::HostPort {
        namespace,
        name,
        port,
        holder: holder.id().clone(),
        holder_name: format!("{}/{}", theirs.namespace, theirs.name),
    })
    .into()
}

fn check_metadata(metadata: Option<&PodSandboxMetadata>) -> Result<(), RpcError> {
    let metadata = metadata.ok_or(RpcError::missing("config.metadata"))?;
    if metadata.name.is_empty() {
        return Err(RpcError::missing("config.metadata.name"));
    }
    Ok(())
}

fn find_handler(handlers: &Handlers, asked: &str) -> Result<Arc<Handler>, RpcError> {
    if let Some(handler) = handlers.find(asked) {
        return Ok(Arc::clone(handler));
    }
    let known = handlers.all().map(|(name, _)| format!("{name:?}"));
    let known = known.collect::<Vec<_>>().join(", ");
    let asked = asked.to_owned();
    Err(Arc::new(PodError::UnknownHandler { asked, known }).into())
}
