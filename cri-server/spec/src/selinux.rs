//! SELinux: the labels of a pod and of its containers (docs/adr/014-selinux.md).
//!
//! ```text
//!               the policy's    the pod's options    the container's options
//!   process     process         user role type level  user role type level
//!   files       file            user           level  user           level
//! ```
//!
//! A container without options has the pod's labels, one with options has the policy's with what it
//! names and, where that is no level, the pod's. Whether the policy of the host knows a label, and
//! its relations between the parts, is for the kernel to say.

mod contexts;
mod label;
mod level;

pub use contexts::{Contexts, ContextsError, policy_name};
pub use label::{Label, LabelError};
pub use level::{Level, LevelError, Pair};

use serde::{Deserialize, Serialize};

use crate::SpecError;
use crate::cri::{NamespaceMode, PodSandboxConfig, SeLinuxOption};
use crate::input::{HostFeatures, Input, pod_security};

/// The field of pods and containers.
const FIELD: &str = "linux.security_context.selinux_options";

/// SELinux on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeLinux {
    /// Not in the kernel, not enabled, or not wanted by the configuration: labels mean nothing.
    Disabled,
    /// Enabled, but its policy says nothing of containers that can be used, and why.
    Unusable(String),
    /// Enabled, with a policy for containers.
    Ready(Box<Contexts>),
}

impl SeLinux {
    /// What the policy says of containers.
    pub fn contexts(&self) -> Option<&Contexts> {
        match self {
            Self::Ready(contexts) => Some(contexts),
            Self::Disabled | Self::Unusable(_) => None,
        }
    }
}

/// The labels of a pod or a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Its processes.
    pub process: Label,
    /// Its files.
    pub files: Label,
}

impl Labels {
    fn new(
        contexts: &Contexts,
        options: &SeLinuxOption,
        own: Option<Level>,
    ) -> Result<Self, SpecError> {
        let [user, role, kind] = [
            word("user", &options.user)?,
            word("role", &options.role)?,
            word("type", &options.r#type)?,
        ];
        let level = level(options)?.or(own);
        if level.is_some() && contexts.process.level.is_none() {
            let reason = "the policy of this host has no levels";
            return Err(SpecError::unsupported(format!("{FIELD}.level"), reason));
        }
        let (mut process, mut files) = (contexts.process.clone(), contexts.file.clone());
        if let Some(user) = user {
            process.user.clone_from(&user);
            files.user = user;
        }
        process.role = role.unwrap_or(process.role);
        process.kind = kind.unwrap_or(process.kind);
        if level.is_some() {
            process.level.clone_from(&level);
            files.level = level;
        }
        Ok(Self { process, files })
    }
}

/// The level that a pod's request names, if it names one.
pub fn pod_level(config: &PodSandboxConfig) -> Result<Option<Level>, SpecError> {
    options_of_pod(config).map_or(Ok(None), level)
}

/// The labels of a pod; `own` is the level of one that names none.
pub fn pod_labels(
    config: &PodSandboxConfig,
    contexts: &Contexts,
    own: Option<Level>,
) -> Result<Labels, SpecError> {
    let none = SeLinuxOption::default();
    Labels::new(contexts, options_of_pod(config).unwrap_or(&none), own)
}

/// What a container is labelled with.
pub(crate) struct Labelling {
    /// `None`: what the policy makes of it, because it has no type for what is not confined.
    pub(crate) process: Option<Label>,
    pub(crate) files: Label,
}

/// The labels of a container; `None` where its pod has none.
pub(crate) fn container_labels(input: &Input<'_>) -> Result<Option<Labelling>, SpecError> {
    let options = input
        .security()
        .and_then(|context| context.selinux_options.as_ref());
    let options = options.filter(|options| is_given(options));
    check(options, input.host)?;
    let (Some(contexts), Some(pod)) = (input.host.selinux.contexts(), &input.pod.labels) else {
        return Ok(None);
    };
    let Labels { process, files } = match options {
        None => pod.clone(),
        Some(options) => Labels::new(contexts, options, pod.process.level.clone())?,
    };
    let asked = options.is_some() || options_of_pod(input.pod_config).is_some();
    let confined = !input.privileged() && (asked || !shares_the_hosts(input));
    Ok(Some(Labelling {
        process: match confined {
            true => Some(process),
            false => contexts.unconfined.clone(),
        },
        files,
    }))
}

/// Processes that share the host's PID or IPC namespace are there to work with the host's, which a
/// confined one may not even look at.
fn shares_the_hosts(input: &Input<'_>) -> bool {
    let options = input
        .security()
        .and_then(|context| context.namespace_options.as_ref())
        .or_else(|| input.pod_security()?.namespace_options.as_ref());
    let host_pid = options.is_some_and(|options| options.pid == NamespaceMode::Node as i32);
    host_pid || input.pod.host_ipc
}

/// Refuses labels where there is no telling what they would come to. Where SELinux is not enabled
/// they mean nothing, and a kubelet sends them all the same.
pub(crate) fn check_pod(config: &PodSandboxConfig, host: &HostFeatures) -> Result<(), SpecError> {
    check(options_of_pod(config), host)
}

fn check(options: Option<&SeLinuxOption>, host: &HostFeatures) -> Result<(), SpecError> {
    match (&host.selinux, options) {
        (SeLinux::Unusable(reason), Some(_)) => Err(SpecError::unsupported(FIELD, reason)),
        _ => Ok(()),
    }
}

fn options_of_pod(config: &PodSandboxConfig) -> Option<&SeLinuxOption> {
    let options = pod_security(config)?.selinux_options.as_ref()?;
    is_given(options).then_some(options)
}

fn is_given(options: &SeLinuxOption) -> bool {
    *options != SeLinuxOption::default()
}

/// One of the words of a label; empty: none is given.
fn word(name: &str, text: &str) -> Result<Option<String>, SpecError> {
    if text.is_empty() {
        return Ok(None);
    }
    match label::check_word(text) {
        Ok(()) => Ok(Some(text.to_owned())),
        Err(error) => Err(SpecError::invalid(
            format!("{FIELD}.{name}"),
            error.to_string(),
        )),
    }
}

fn level(options: &SeLinuxOption) -> Result<Option<Level>, SpecError> {
    let text = &options.level;
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse::<Level>();
    let refused = |e: LevelError| SpecError::invalid(format!("{FIELD}.level"), e.to_string());
    parsed.map(Some).map_err(refused)
}

/// The error for a label that the policy does not know.
pub fn unknown_label(label: &str, reason: &str) -> SpecError {
    SpecError::invalid(
        FIELD,
        format!("the policy of this host does not know label {label}: {reason}"),
    )
}
