//! Ports of the host that are led into pods: no two living pods have the same. A pod lives, in this,
//! until its network has been given back.
//!
//! A kubelet admits no such pair, but it looks at pods that it knows of, and not every client is
//! one. Network plugins do not look: of two rules for a port the first one counts, and the second pod
//! would be ready and never reached. Pods on the host's network have no ports led to them.

use std::fmt;
use std::net::IpAddr;

use skiff_cri::v1::{PodSandboxConfig, PortMapping, Protocol};

/// A port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// `None`: on every address. Of IPv4 in its own form, be it written as one of IPv6 or not.
    address: Option<IpAddr>,
    port: i32,
    protocol: Protocol,
}

impl HostPort {
    /// What a mapping asks for; `None` for one that asks for nothing on the host, and for one that is
    /// none, which is refused elsewhere.
    fn of(mapping: &PortMapping) -> Option<Self> {
        let address = match mapping.host_ip.as_str() {
            "" => None,
            text => Some(text.parse::<IpAddr>().ok()?.to_canonical()),
        };
        Some(Self {
            address,
            port: (mapping.host_port > 0).then_some(mapping.host_port)?,
            protocol: Protocol::try_from(mapping.protocol).ok()?,
        })
    }

    fn overlaps(self, other: Self) -> bool {
        let addresses = match (self.address, other.address) {
            (Some(one), Some(other)) if one.is_ipv4() == other.is_ipv4() => {
                one == other || one.is_unspecified() || other.is_unspecified()
            }
            (Some(_), Some(_)) => false,
            _ => true,
        };
        addresses && self.port == other.port && self.protocol == other.protocol
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol.as_str_name())?;
        self.address
            .map_or(Ok(()), |address| write!(f, " of {address}"))
    }
}

/// The ports of the host that a pod asks for.
pub fn host_ports(config: &PodSandboxConfig) -> Vec<HostPort> {
    let ports: Vec<_> = config
        .port_mappings
        .iter()
        .filter_map(HostPort::of)
        .collect();
    let on_host = || skiff_spec::pod_namespaces(config).is_ok_and(|pod| pod.host_network);
    if ports.is_empty() || on_host() {
        return Vec::new();
    }
    ports
}

/// The first port of `wanted` that is among those of another pod.
pub fn taken(wanted: &[HostPort], others: &PodSandboxConfig) -> Option<HostPort> {
    let others = host_ports(others);
    let is_taken = |port: &&HostPort| others.iter().any(|other| port.overlaps(*other));
    wanted.iter().find(is_taken).copied()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use skiff_cri::v1 as cri;

    use super::*;
    use crate::id::Id;
    use crate::pod::{Facts, PodHandle, State};
    use crate::store::{Store, Taken};

    fn mapping(address: &str, port: i32, protocol: Protocol) -> PortMapping {
        PortMapping {
            protocol: protocol.into(),
            container_port: 80,
            host_port: port,
            host_ip: address.into(),
        }
    }

    fn config(name: &str, mappings: Vec<PortMapping>) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: name.into(),
                ..Default::default()
            }),
            port_mappings: mappings,
            ..Default::default()
        }
    }

    fn pod(config: PodSandboxConfig) -> Arc<PodHandle> {
        let facts = Facts {
            id: Id::random().unwrap(),
            config,
            runtime_handler: String::new(),
            created_at: 0,
            labels: None,
        };
        PodHandle::new(Arc::new(facts)).0
    }

    #[test]
    fn ports_are_the_same_with_their_protocol_on_addresses_that_overlap() {
        let tcp = |address, port| mapping(address, port, Protocol::Tcp);
        for (one, other, same) in [
            (tcp("", 80), tcp("", 80), true),
            (tcp("", 80), tcp("10.0.0.1", 80), true),
            (tcp("", 80), tcp("::1", 80), true),
            (tcp("0.0.0.0", 80), tcp("10.0.0.1", 80), true),
            (tcp("0.0.0.0", 80), tcp("fd00::1", 80), false),
            (tcp("::", 80), tcp("fd00::1", 80), true),
            (tcp("10.0.0.1", 80), tcp("10.0.0.1", 80), true),
            (tcp("10.0.0.1", 80), tcp("10.0.0.2", 80), false),
            (tcp("10.0.0.1", 80), tcp("::ffff:10.0.0.1", 80), true),
            (tcp("0.0.0.0", 80), tcp("::ffff:10.0.0.1", 80), true),
            (tcp("", 80), tcp("", 81), false),
            (tcp("", 0), tcp("", 0), false),
            (tcp("", 80), mapping("", 80, Protocol::Udp), false),
            (tcp("nonsense", 80), tcp("", 80), false),
        ] {
            let (a, b) = (
                config("a", vec![one.clone()]),
                config("b", vec![other.clone()]),
            );
            assert_eq!(
                taken(&host_ports(&a), &b).is_some(),
                same,
                "{one:?} {other:?}"
            );
            assert_eq!(
                taken(&host_ports(&b), &a).is_some(),
                same,
                "{other:?} {one:?}"
            );
        }
        let told = host_ports(&config("a", vec![tcp("10.0.0.1", 80)]))[0].to_string();
        assert_eq!(told, "80/TCP of 10.0.0.1");
    }

    #[test]
    fn a_pod_on_the_hosts_network_has_none() {
        let mut config = config("a", vec![mapping("", 80, Protocol::Tcp)]);
        assert_eq!(host_ports(&config).len(), 1);
        config.linux = Some(cri::LinuxPodSandboxConfig {
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(cri::NamespaceOption {
                    network: cri::NamespaceMode::Node.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        });
        assert_eq!(host_ports(&config), []);
    }

    /// Two living pods were given one host port, and the second was never reached.
    #[test]
    fn a_host_port_is_refused_while_a_living_pod_has_it() {
        let store = Store::default();
        let of = |name: &str| pod(config(name, vec![mapping("", 80, Protocol::Tcp)]));
        let (first, second) = (of("first"), of("second"));
        assert!(store.claim(first.name(), &first).is_ok());
        match store.claim(second.name(), &second) {
            Err(Taken::Port(holder, port)) => {
                assert_eq!(
                    (holder.id(), port.to_string()),
                    (first.id(), "80/TCP".into())
                );
            }
            _ => panic!("two pods have one port of the host"),
        }
        let mut view = (*first.view()).clone();
        (view.state, view.holding) = (State::NotReady, true);
        first.show(view.clone());
        assert!(store.claim(second.name(), &second).is_err());
        view.holding = false;
        first.show(view);
        assert!(store.claim(second.name(), &second).is_ok());
    }
}
