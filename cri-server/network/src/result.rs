//! What ADD answers, in every version of the specification, as one type.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::version::{Form, UnknownVersion, Version};

/// Why an answer is not a result.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// Not JSON, or not of the form that its version has.
    #[error("not a CNI result: {0}")]
    Json(#[from] serde_json::Error),
    /// Of a version this client does not speak.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
}

/// A successful answer to ADD.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Success {
    /// Interfaces made, in the pod and on the host.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub interfaces: Vec<Interface>,
    /// Addresses given.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ips: Vec<Ip>,
    /// Routes made.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub routes: Vec<Route>,
    /// What the network knows of name servers.
    #[serde(deserialize_with = "null_is_default")]
    pub dns: Resolver,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// Its name where it is.
    pub name: String,
    /// Hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Maximum transmission unit, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The network namespace it is in; `None` or empty: the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// Path of a socket that stands for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// PCI device behind it.
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// Address and prefix length.
    pub address: Cidr,
    /// Default gateway of its subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Index into [`Success::interfaces`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<i64>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub dst: Cidr,
    /// Next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<String>,
    /// Maximum transmission unit along it, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Maximum segment size to advertise, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Lower wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<i64>,
    /// rtnetlink(7) scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<i64>,
}

/// What a network knows of name servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolver {
    /// Addresses, in order.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub nameservers: Vec<String>,
    /// Local domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Search domains, in order.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub search: Vec<String>,
    /// resolv.conf(5) options.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub options: Vec<String>,
}

/// An address with its prefix length, such as `10.1.0.5/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The address, host bits included.
    pub ip: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
}

/// Text that is not an address with a prefix length.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address with a prefix length")]
pub struct BadCidr(String);

/// The answer of versions before 0.3.0.
#[derive(Default, Serialize, Deserialize)]
struct Legacy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<LegacyIp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<LegacyIp>,
    #[serde(default, deserialize_with = "null_is_default")]
    dns: Resolver,
}

#[derive(Serialize, Deserialize)]
struct LegacyIp {
    ip: Cidr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    routes: Vec<Route>,
}

/// Reads a plugin's answer to a request of version `asked`. Returns it typed, and as a document
/// of version `asked` to hand to the next plugin: untouched but for its version when the answer
/// has the form of that version, so that keys unknown here are passed on.
pub fn parse(json: &[u8], asked: Version) -> Result<(Success, Value), ResultError> {
    let mut object: Map<String, Value> = serde_json::from_slice(json)?;
    let answered = match object.get("cniVersion") {
        None | Some(Value::Null) => asked,
        Some(Value::String(text)) if text.is_empty() => asked,
        Some(Value::String(text)) => text.parse()?,
        Some(other) => return Err(UnknownVersion::from_value(other).into()),
    };
    object.insert("cniVersion".into(), asked.as_str().into());
    let document = Value::Object(object);
    let success = match answered.form() {
        Form::Legacy => Legacy::deserialize(&document)?.into(),
        Form::Tagged | Form::Plain => Success::deserialize(&document)?,
    };
    if answered.form() == asked.form() {
        return Ok((success, document));
    }
    let document = success.document(asked)?;
    Ok((success, document))
}

impl Success {
    /// Addresses of the pod's interface `name`, in the answer's order. A network that numbers no
    /// interface, or names the pod's differently, is taken to mean the addresses inside any
    /// namespace, and failing those, all.
    pub(crate) fn pod_ips(&self, name: &str) -> Vec<IpAddr> {
        let home = |ip: &Ip| {
            let index = usize::try_from(ip.interface?).ok()?;
            self.interfaces.get(index)
        };
        let inside = |interface: &Interface| {
            interface
                .sandbox
                .as_deref()
                .is_some_and(|path| !path.is_empty())
        };
        let pick = |wanted: &dyn Fn(&Ip) -> bool| -> Vec<IpAddr> {
            self.ips
                .iter()
                .filter(|ip| wanted(ip))
                .map(|ip| ip.address.ip)
                .collect()
        };
        let named = pick(&|ip| home(ip).is_none_or(|i| inside(i) && i.name == name));
        if !named.is_empty() {
            return named;
        }
        let inside = pick(&|ip| home(ip).is_some_and(inside));
        if !inside.is_empty() {
            return inside;
        }
        pick(&|_| true)
    }

    /// The answer as a document of another version.
    fn document(&self, version: Version) -> Result<Value, serde_json::Error> {
        let mut document = match version.form() {
            Form::Legacy => serde_json::to_value(Legacy::from(self))?,
            Form::Tagged | Form::Plain => serde_json::to_value(self)?,
        };
        document["cniVersion"] = json!(version.as_str());
        if version.form() == Form::Tagged && !self.ips.is_empty() {
            for (index, ip) in self.ips.iter().enumerate() {
                let tag = if ip.address.ip.is_ipv4() { "4" } else { "6" };
                document["ips"][index]["version"] = json!(tag);
            }
        }
        Ok(document)
    }
}

impl From<Legacy> for Success {
    fn from(legacy: Legacy) -> Self {
        let mut success = Self {
            dns: legacy.dns,
            ..Self::default()
        };
        for family in [legacy.ip4, legacy.ip6].into_iter().flatten() {
            success.routes.extend(family.routes);
            success.ips.push(Ip {
                address: family.ip,
                gateway: family.gateway,
                interface: None,
            });
        }
        success
    }
}

impl From<&Success> for Legacy {
    fn from(success: &Success) -> Self {
        let family = |v4: bool| {
            let ip = success
                .ips
                .iter()
                .find(|ip| ip.address.ip.is_ipv4() == v4)?;
            let routes = success
                .routes
                .iter()
                .filter(|route| route.dst.ip.is_ipv4() == v4);
            Some(LegacyIp {
                ip: ip.address,
                gateway: ip.gateway.clone(),
                routes: routes.cloned().collect(),
            })
        };
        Self {
            ip4: family(true),
            ip6: family(false),
            dns: success.dns.clone(),
        }
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let parse = || {
            let (ip, prefix) = text.split_once('/')?;
            let ip: IpAddr = ip.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            (prefix <= if ip.is_ipv4() { 32 } else { 128 }).then_some(Self { ip, prefix })
        };
        parse().ok_or_else(|| BadCidr(text.to_owned()))
    }
}

impl TryFrom<String> for Cidr {
    type Error = BadCidr;

    fn try_from(text: String) -> Result<Self, BadCidr> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// Go writes an absent list as `null`.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
#[path = "result_tests.rs"]
mod tests;
