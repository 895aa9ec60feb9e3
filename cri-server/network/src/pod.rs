//! What the caller says about a pod, and what it gets back: the nouns of the public interface.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::result::Success;

/// The interface every pod gets.
pub const INTERFACE: &str = "eth0";

/// A pod that wants a network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pod {
    /// Sandbox id; `CNI_CONTAINERID`. Letters, digits, `.`, `_` and `-`.
    pub id: String,
    /// Kubernetes name.
    pub name: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Kubernetes uid.
    pub uid: String,
    /// Where the network namespace is bound; `CNI_NETNS`.
    pub netns: PathBuf,
    /// Host ports; entries with host port 0 ask for nothing and are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
    /// The pod's annotations: for plugins that ask for them, and for the bandwidth limits in them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// For plugins with the `dns` capability.
    #[serde(default)]
    pub dns: Dns,
    /// For plugins with the `cgroupPath` capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<String>,
}

/// One host port of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port on the host; 0: none wanted.
    pub host_port: u16,
    /// Port in the pod.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// Address of the host to listen on; `None`: all.
    #[serde(rename = "hostIP", default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// Transport protocol of a host port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A pod's resolver configuration, or what a plugin says about one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// Search domains, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// resolv.conf(5) options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A pod's place in its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the network.
    pub network: String,
    /// Addresses of the pod's `eth0` in the plugins' order, at least one; the first is the pod's
    /// address.
    pub ips: Vec<IpAddr>,
    /// All that the plugins said.
    pub result: Success,
}

/// Whether pods can be given a network now, and if not, exactly why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkStatus {
    /// Value of the CRI condition `NetworkReady`.
    pub ready: bool,
    /// CamelCase reason; empty when ready.
    pub reason: &'static str,
    /// What is wrong and where; empty when ready.
    pub message: String,
    /// Name of the chosen network.
    pub network: Option<String>,
    /// The file it came from.
    pub file: Option<PathBuf>,
    /// Files that were passed over, each with the reason.
    pub skipped: Vec<(PathBuf, String)>,
}
