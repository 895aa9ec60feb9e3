//! SELinux on this host (docs/adr/014-selinux.md): what its policy says of containers, which labels
//! it knows, and which pairs of categories are in use.
//!
//! Map: [`probe`] asks once, at the daemon's start; [`PairsInUse`] labels pods and keeps the pairs of theirs and of their containers; [`of_container`] has
//! the kernel judge a container's labels; [`relabel()`] writes labels of volumes.

mod pairs;
mod relabel;

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use skiff_spec::selinux::{
    Contexts, ContextsError, Label, Labels, Level, Pair, policy_name, unknown_label,
};
use skiff_spec::{SeLinux, SpecError};

use crate::telemetry::chain;

pub use pairs::{Held, PairsInUse, PodLabels};
pub use relabel::{RelabelError, label_file, relabel};

/// There when SELinux is enabled and has a policy: its file system is mounted then.
const ENFORCE: &str = "/sys/fs/selinux/enforce";
/// Takes a label and gives its usual form, or refuses what the policy does not know.
const CONTEXT: &str = "/sys/fs/selinux/context";
/// Names the policy.
const CONFIG: &str = "/etc/selinux/config";

/// Why the host's policy is of no use to containers.
#[derive(Debug, thiserror::Error)]
enum PolicyError {
    #[error("read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{CONFIG} has no SELINUXTYPE that names a policy")]
    Unnamed,
    #[error("{}", .0.display())]
    Contexts(PathBuf, #[source] ContextsError),
    #[error("the policy does not know its own label {0}")]
    Unknown(String, #[source] io::Error),
}

/// What SELinux can do here. Where it is not enabled this costs the look at one file.
pub fn probe() -> SeLinux {
    if !Path::new(ENFORCE).exists() {
        return SeLinux::Disabled;
    }
    match contexts() {
        Ok(contexts) => SeLinux::Ready(Box::new(contexts)),
        Err(error) => SeLinux::Unusable(chain(&error)),
    }
}

fn contexts() -> Result<Contexts, PolicyError> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|source| PolicyError::Read(path.into(), source))
    };
    let config = read(Path::new(CONFIG))?;
    let policy = policy_name(&config).ok_or(PolicyError::Unnamed)?;
    let path = Path::new("/etc/selinux")
        .join(policy)
        .join("contexts/lxc_contexts");
    let mut contexts =
        Contexts::parse(&read(&path)?).map_err(|source| PolicyError::Contexts(path, source))?;
    for label in [&contexts.process, &contexts.file] {
        // The last pair of all is one that a pod may be given.
        let last = label.level.as_ref().zip(Pair::new(1022, 1023));
        let level = last.map(|(level, pair)| Level::of_pair(level.sensitivity(), pair));
        let label = Label {
            level,
            ..label.clone()
        };
        let label = label.to_string();
        usual_form(&label).map_err(|source| PolicyError::Unknown(label, source))?;
    }
    contexts.unconfined = contexts
        .unconfined
        .filter(|label| usual_form(&label.to_string()).is_ok());
    if contexts.unconfined.is_none() {
        tracing::warn!(
            policy,
            "the SELinux policy has no label for what is not confined: containers that are privileged \
             or share the host's processes or IPC run in skiffd's own domain"
        );
    }
    Ok(contexts)
}

/// The form in which the kernel tells a label, for one that the policy knows.
fn usual_form(label: &str) -> io::Result<String> {
    let mut file = OpenOptions::new().read(true).write(true).open(CONTEXT)?;
    file.write_all(label.as_bytes())?;
    let mut form = String::new();
    file.read_to_string(&mut form)?;
    Ok(form.trim_end_matches('\0').to_owned())
}

fn judged(label: &str) -> Result<String, SpecError> {
    usual_form(label).map_err(|error| unknown_label(label, &error.to_string()))
}

fn judged_label(label: &Label) -> Result<Label, SpecError> {
    let text = label.to_string();
    let form = judged(&text)?;
    form.parse::<Label>()
        .map_err(|error| unknown_label(&text, &error.to_string()))
}

/// Has the kernel judge the labels of a container's specification, but for those of its pod.
pub fn of_container(spec: &mut Spec, pod: Option<&Labels>) -> Result<(), SpecError> {
    let known = |label: &str, pod: &Label| pod.to_string() == label;
    if let Some(process) = spec.process_mut()
        && let Some(label) = process.selinux_label()
        && !pod.is_some_and(|pod| known(label, &pod.process))
    {
        let label = judged(label)?;
        process.set_selinux_label(Some(label));
    }
    if let Some(linux) = spec.linux_mut()
        && let Some(label) = linux.mount_label()
        && !pod.is_some_and(|pod| known(label, &pod.files))
    {
        let label = judged(label)?;
        linux.set_mount_label(Some(label));
    }
    Ok(())
}

/// The label that the volumes of a container are to have, if they are to have one: what is not
/// confined reads everything.
pub fn volume_label<'a>(spec: &'a Spec, contexts: &Contexts) -> Option<&'a str> {
    let process = spec.process().as_ref()?.selinux_label().as_deref()?;
    let unconfined = contexts.unconfined.as_ref();
    let kind = process.split(':').nth(2);
    if kind == unconfined.map(|label| label.kind.as_str()) {
        return None;
    }
    spec.linux().as_ref()?.mount_label().as_deref()
}
