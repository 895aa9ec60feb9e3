//! Which namespaces a container joins, makes, or shares with the host.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType};

use crate::SpecError;
use crate::cri::{NamespaceMode, NamespaceOption, PodSandboxConfig};
use crate::input::{Input, PodNetwork, pod_security};
use crate::userns::{self, UserNamespace};

/// What a pod's configuration asks of the pod itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodNamespaces {
    /// The host's network and UTS namespaces.
    pub host_network: bool,
    /// The host's IPC namespace.
    pub host_ipc: bool,
    /// One PID namespace for all its containers.
    pub shared_pid: bool,
    /// A user namespace, to which its other namespaces belong.
    pub user: Option<UserNamespace>,
}

/// Reads `linux.security_context.namespace_options` of a pod.
pub fn pod_namespaces(config: &PodSandboxConfig) -> Result<PodNamespaces, SpecError> {
    let context = pod_security(config);
    let options = context
        .and_then(|context| context.namespace_options.as_ref())
        .cloned()
        .unwrap_or_default();
    Ok(PodNamespaces {
        user: userns::requested(&options)?,
        host_network: pod_or_node(options.network, "network")?,
        host_ipc: pod_or_node(options.ipc, "ipc")?,
        shared_pid: match mode(options.pid, "pid")? {
            NamespaceMode::Pod => true,
            NamespaceMode::Container | NamespaceMode::Node => false,
            NamespaceMode::Target => {
                return Err(invalid("pid", "TARGET is for containers, not for pods"));
            }
        },
    })
}

/// The namespaces of a container.
///
/// POD means the pod's namespace, which is the host's when the pod uses that. Without
/// `namespace_options` a container follows its pod. Every container has its own mount namespace,
/// and its own cgroup namespace unless it is privileged: such ones see the host's cgroups
/// (KEP-2254).
pub(crate) fn namespaces(input: &Input<'_>) -> Result<Vec<LinuxNamespace>, SpecError> {
    let options = options(input);
    let mut list = vec![namespace(LinuxNamespaceType::Mount, None)?];
    match &input.pod.network {
        PodNetwork::Namespace(path) => {
            refuse_node(options.network, "network")?;
            list.push(namespace(LinuxNamespaceType::Network, Some(path.clone()))?);
            list.push(namespace(
                LinuxNamespaceType::Uts,
                Some(of_shim(input, "uts")),
            )?);
        }
        PodNetwork::Host => {
            pod_or_node(options.network, "network")?;
        }
    }
    if input.pod.host_ipc {
        pod_or_node(options.ipc, "ipc")?;
    } else {
        refuse_node(options.ipc, "ipc")?;
        list.push(namespace(
            LinuxNamespaceType::Ipc,
            Some(of_shim(input, "ipc")),
        )?);
    }
    list.extend(pid_namespace(input, &options)?);
    if !input.privileged() {
        list.push(namespace(LinuxNamespaceType::Cgroup, None)?);
    }
    Ok(list)
}

fn options(input: &Input<'_>) -> NamespaceOption {
    let of_container = input
        .security()
        .and_then(|context| context.namespace_options.as_ref());
    let of_pod = input
        .pod_security()
        .and_then(|context| context.namespace_options.as_ref());
    of_container.or(of_pod).cloned().unwrap_or_default()
}

fn pid_namespace(
    input: &Input<'_>,
    options: &NamespaceOption,
) -> Result<Option<LinuxNamespace>, SpecError> {
    let of_process = |pid: i32| {
        namespace(
            LinuxNamespaceType::Pid,
            Some(format!("/proc/{pid}/ns/pid").into()),
        )
    };
    match mode(options.pid, "pid")? {
        NamespaceMode::Container => namespace(LinuxNamespaceType::Pid, None).map(Some),
        NamespaceMode::Node => Ok(None),
        NamespaceMode::Pod => match input.pod.init_pid {
            Some(pid) => of_process(pid).map(Some),
            None if pod_is_in_host_pid(input) => Ok(None),
            None => Err(invalid(
                "pid",
                "POD, and the pod was made without a PID namespace",
            )),
        },
        NamespaceMode::Target => match input.target_pid {
            Some(pid) => of_process(pid).map(Some),
            None => Err(SpecError::invalid(
                "linux.security_context.namespace_options.target_id",
                format!("no running container {:?} in the pod", options.target_id),
            )),
        },
    }
}

fn pod_is_in_host_pid(input: &Input<'_>) -> bool {
    let context = input.pod_security();
    let options = context.and_then(|context| context.namespace_options.as_ref());
    options.is_some_and(|options| options.pid == NamespaceMode::Node as i32)
}

fn of_shim(input: &Input<'_>, kind: &str) -> PathBuf {
    format!("/proc/{}/ns/{kind}", input.pod.shim_pid).into()
}

fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> Result<LinuxNamespace, SpecError> {
    let builder = LinuxNamespaceBuilder::default().typ(kind);
    let builder = match path {
        Some(path) => builder.path(path),
        None => builder,
    };
    Ok(builder.build()?)
}

fn mode(value: i32, what: &str) -> Result<NamespaceMode, SpecError> {
    NamespaceMode::try_from(value).map_err(|_| invalid(what, format!("unknown mode {value}")))
}

/// Whether a namespace that has only these two modes is the host's.
fn pod_or_node(value: i32, what: &str) -> Result<bool, SpecError> {
    match mode(value, what)? {
        NamespaceMode::Pod => Ok(false),
        NamespaceMode::Node => Ok(true),
        other => Err(invalid(
            what,
            format!("{} is not possible", other.as_str_name()),
        )),
    }
}

fn refuse_node(value: i32, what: &str) -> Result<(), SpecError> {
    if pod_or_node(value, what)? {
        return Err(invalid(
            what,
            "NODE, and the pod has a namespace of its own",
        ));
    }
    Ok(())
}

fn invalid(what: &str, reason: impl Into<String>) -> SpecError {
    SpecError::invalid(
        format!("linux.security_context.namespace_options.{what}"),
        reason,
    )
}
