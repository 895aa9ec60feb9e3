//! Why something could not be done with a pod.

use std::path::PathBuf;

use skiff_spec::SpecError;

use super::host_ports::HostPort;
use crate::id::Id;
use crate::record::RecordError;
use crate::selinux::RelabelError;
use crate::shim::ShimError;
use crate::systemd::SystemdError;

/// Why something could not be done with a pod.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The request cannot be meant, or asks for what is not offered.
    #[error("pod {namespace}/{name}")]
    Spec {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The field at fault.
        #[source]
        source: SpecError,
    },
    /// Another pod has the name.
    #[error("pod {namespace}/{name} attempt {attempt} exists as {id}, {why}")]
    Exists {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Which attempt at it.
        attempt: u32,
        /// The pod that has the name.
        id: Id,
        /// Why the two are not the same.
        why: &'static str,
    },
    /// Two pods would have ids of the host in common.
    #[error(
        "pod {namespace}/{name}: linux.security_context.namespace_options.userns_options: \
         ids of the host among these belong to pod {holder} as long as that is not stopped"
    )]
    HostIds {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The pod that has them.
        holder: Id,
    },
    /// Two pods would have a port of the host.
    #[error(
        "pod {namespace}/{name}: port_mappings: port {port} of the host leads to pod {holder_name} \
         ({holder}) as long as that is not stopped"
    )]
    HostPort {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The port.
        port: HostPort,
        /// The pod that has it.
        holder: Id,
        /// Namespace and name of that.
        holder_name: String,
    },
    /// There is no such runtime handler.
    #[error("runtime_handler: {asked:?} is not known; there are {known}")]
    UnknownHandler {
        /// What the request names.
        asked: String,
        /// What it may name.
        known: String,
    },
    /// systemd did not make its scope.
    #[error("make the scope of pod {id}")]
    Scope {
        /// The pod.
        id: Id,
        /// Why it failed.
        #[source]
        source: SystemdError,
    },
    /// Its files cannot be given its SELinux label.
    #[error("label the files of pod {id}")]
    Label {
        /// The pod.
        id: Id,
        /// Why not.
        #[source]
        source: RelabelError,
    },
    /// The shim failed or refused.
    #[error("{action} pod {id}")]
    Shim {
        /// What was attempted.
        action: &'static str,
        /// The pod.
        id: Id,
        /// Why it failed.
        #[source]
        source: ShimError,
    },
    /// CNI failed.
    #[error("{action} the network of pod {id}")]
    Network {
        /// What was attempted.
        action: &'static str,
        /// The pod.
        id: Id,
        /// Why it failed.
        #[source]
        source: Box<skiff_cni::Error>,
    },
    /// The pod's state does not allow it.
    #[error("pod {id}: {denied}")]
    Denied {
        /// The pod.
        id: Id,
        /// Why not.
        denied: super::state::Denied,
    },
    /// The pod's processes do not end.
    #[error("pod {id}: processes in cgroup {} do not end", cgroup.display())]
    Undead {
        /// The pod.
        id: Id,
        /// Where they are.
        cgroup: PathBuf,
    },
    /// A container of the pod could not be removed.
    #[error("remove pod {id}")]
    Container {
        /// The pod.
        id: Id,
        /// Why.
        #[source]
        source: Box<crate::container::ContainerError>,
    },
    /// The file system refused.
    #[error("{action} {}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: std::io::Error,
    },
    /// The record could not be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The kernel has no randomness to give.
    #[error("make a pod id: {0}")]
    Id(getrandom::Error),
}
