//! What a plugin is given: the document on its standard input and its environment. Pure.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::network::{Plugin, valid_identifier};
use crate::pod::{INTERFACE, Pod, PortMapping};

/// The annotations by which Kubernetes limits a pod's bandwidth.
const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// Burst that limits nothing, in bits: plugins keep it in 32 bits with a sign.
const UNLIMITED_BURST: i64 = i32::MAX as i64;
/// Rates Kubernetes accepts, in bits per second.
const RATES: std::ops::RangeInclusive<f64> = 1e3..=1e15;

/// What a pod's description cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPod {
    /// An id plugins and file systems would not take.
    #[error("pod id {0:?} is not a letter or digit followed by letters, digits, '_', '.', '-'")]
    Id(String),
    /// A value that would break out of CNI_ARGS.
    #[error("pod {field} {value:?} has ';', '=' or a control character in it")]
    Argument {
        /// Which.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// A bandwidth that is none.
    #[error("annotation {key}: {value:?} is not a bandwidth between 1k and 1P bits per second")]
    Bandwidth {
        /// The annotation.
        key: &'static str,
        /// Its value.
        value: String,
    },
}

/// `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Is it attached still?
    Check,
    /// Could you attach?
    Status,
    /// Forget everything but this.
    Gc,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
        })
    }
}

/// Environment of a verb that concerns a network as a whole.
pub(crate) fn network_environment(verb: Verb) -> Vec<(&'static str, OsString)> {
    vec![("CNI_COMMAND", verb.to_string().into())]
}

/// Environment of a verb that concerns one pod; without a namespace, `CNI_NETNS` is empty.
pub(crate) fn pod_environment(
    verb: Verb,
    pod: &Pod,
    netns: Option<&Path>,
) -> Vec<(&'static str, OsString)> {
    let args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        pod.namespace, pod.name, pod.id, pod.uid
    );
    vec![
        ("CNI_COMMAND", verb.to_string().into()),
        ("CNI_CONTAINERID", (&pod.id).into()),
        ("CNI_NETNS", netns.map(OsString::from).unwrap_or_default()),
        ("CNI_IFNAME", INTERFACE.into()),
        ("CNI_ARGS", args.into()),
    ]
}

/// Refuses a pod whose description no plugin could be given faithfully.
pub(crate) fn validate(pod: &Pod) -> Result<(), BadPod> {
    if !valid_identifier(&pod.id) {
        return Err(BadPod::Id(pod.id.clone()));
    }
    let breaks = |c: char| c == ';' || c == '=' || c.is_control();
    for (field, value) in [
        ("name", &pod.name),
        ("namespace", &pod.namespace),
        ("uid", &pod.uid),
    ] {
        if value.contains(breaks) {
            return Err(BadPod::Argument {
                field,
                value: value.clone(),
            });
        }
    }
    bandwidth(pod).map(drop)
}

/// The request for one plugin about one pod.
pub(crate) fn pod_request(
    plugin: &Plugin,
    pod: &Pod,
    previous: Option<&Value>,
) -> Result<String, BadPod> {
    let mut request = plugin.head.clone();
    let told = runtime_config(&plugin.capabilities, pod)?;
    if !told.is_empty() {
        append(&mut request, "runtimeConfig", &Value::Object(told));
    }
    if let Some(previous) = previous {
        append(&mut request, "prevResult", previous);
    }
    request.push('}');
    Ok(request)
}

/// The STATUS request for one plugin.
pub(crate) fn status_request(plugin: &Plugin) -> String {
    format!("{}}}", plugin.head)
}

/// The GC request for one plugin; `valid` are the ids of the pods to leave alone.
pub(crate) fn gc_request<'a>(plugin: &Plugin, valid: impl Iterator<Item = &'a String>) -> String {
    let valid: Value = valid
        .map(|id| json!({"containerID": id, "ifname": INTERFACE}))
        .collect::<Vec<_>>()
        .into();
    let mut request = plugin.head.clone();
    append(&mut request, "cni.dev/valid-attachments", &valid);
    // The name under which plugins built before the specification was corrected look for it.
    append(&mut request, "cni.dev/attachments", &valid);
    request.push('}');
    request
}

fn append(request: &mut String, key: &str, value: &Value) {
    request.push_str(&format!(",\"{key}\":{value}"));
}

/// Capability arguments: what the plugin wants to be told and this pod has.
fn runtime_config(capabilities: &[String], pod: &Pod) -> Result<Map<String, Value>, BadPod> {
    let mut told = Map::new();
    for capability in capabilities {
        if let Some(value) = capability_argument(capability, pod)? {
            told.insert(capability.clone(), value);
        }
    }
    Ok(told)
}

fn capability_argument(capability: &str, pod: &Pod) -> Result<Option<Value>, BadPod> {
    Ok(match capability {
        "portMappings" => {
            let wanted: Vec<&PortMapping> = pod
                .port_mappings
                .iter()
                .filter(|port| port.host_port > 0)
                .collect();
            (!wanted.is_empty()).then(|| json!(wanted))
        }
        "dns" => (pod.dns != Default::default()).then(|| json!(pod.dns)),
        "bandwidth" => bandwidth(pod)?,
        "cgroupPath" => pod.cgroup_parent.as_ref().map(|path| json!(path)),
        "io.kubernetes.cri.pod-annotations" => {
            (!pod.annotations.is_empty()).then(|| json!(pod.annotations))
        }
        _ => None,
    })
}

fn bandwidth(pod: &Pod) -> Result<Option<Value>, BadPod> {
    let rate = |key: &'static str| match pod.annotations.get(key) {
        None => Ok(None),
        Some(value) => quantity(value)
            .filter(|rate| RATES.contains(rate))
            .map(|rate| Some(rate as i64))
            .ok_or_else(|| BadPod::Bandwidth {
                key,
                value: value.clone(),
            }),
    };
    let (ingress, egress) = (rate(INGRESS)?, rate(EGRESS)?);
    if ingress.is_none() && egress.is_none() {
        return Ok(None);
    }
    let mut limits = Map::new();
    for (direction, rate) in [("ingress", ingress), ("egress", egress)] {
        if let Some(rate) = rate {
            limits.insert(format!("{direction}Rate"), rate.into());
            limits.insert(format!("{direction}Burst"), UNLIMITED_BURST.into());
        }
    }
    Ok(Some(limits.into()))
}

/// A Kubernetes quantity such as `10M`, `1.5G`, `64Ki` or `1000`.
fn quantity(text: &str) -> Option<f64> {
    let end = text
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(text.len());
    let factor = match &text[end..] {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(text[..end].parse::<f64>().ok()? * factor)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
