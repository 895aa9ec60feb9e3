//! Kernel parameters of a pod's namespaces.

use std::collections::BTreeMap;

use crate::SpecError;
use crate::cri::PodSandboxConfig;
use crate::namespaces::pod_namespaces;

/// The parameters to set in a pod's namespaces: the configured defaults that apply to it, and the
/// request's, which must. Names are dotted; a dot within a component is written `/`, as sysctl(8)
/// does (`net.ipv4.conf.eth0/100.rp_filter`).
pub fn pod_sysctls(
    config: &PodSandboxConfig,
    defaults: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, SpecError> {
    let namespaces = pod_namespaces(config)?;
    let own = |kind: Kind| match kind {
        Kind::Network => !namespaces.host_network,
        Kind::Ipc => !namespaces.host_ipc,
    };
    let mut sysctls = BTreeMap::new();
    for (name, value) in defaults {
        if let Some((name, kind)) = namespaced(name).filter(|(_, kind)| own(*kind)) {
            debug_assert!(own(kind));
            sysctls.insert(name, value.clone());
        }
    }
    let requested = config.linux.as_ref().map(|linux| linux.sysctls.iter());
    for (name, value) in requested.into_iter().flatten() {
        let field = format!("linux.sysctls[{name:?}]");
        let (name, kind) = namespaced(name).ok_or_else(|| {
            let reason = "not a parameter of a network or IPC namespace (net.*, kernel.shm*, \
                          kernel.msg*, kernel.sem, fs.mqueue.*)";
            SpecError::invalid(field.as_str(), reason)
        })?;
        if !own(kind) {
            let reason = "the pod is in the host's namespace, whose parameters are not its own";
            return Err(SpecError::invalid(field, reason));
        }
        sysctls.insert(name, value.clone());
    }
    Ok(sysctls)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Network,
    Ipc,
}

/// The dotted name and the namespace it belongs to; `None` when it is no parameter of one.
fn namespaced(name: &str) -> Option<(String, Kind)> {
    // The first separator tells which one separates.
    let separator = name.find(['.', '/']).map(|at| &name[at..=at])?;
    let dotted = match separator {
        "/" => swap_separators(name),
        _ => name.to_owned(),
    };
    let clean = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-/:@".contains(c))
            && !swap_separators(part).split('.').any(str::is_empty)
    };
    if !dotted.split('.').all(clean) {
        return None;
    }
    let kind = match dotted.split_once('.')? {
        ("net", _) => Kind::Network,
        ("kernel", "sem") => Kind::Ipc,
        ("kernel", rest) if rest.starts_with("shm") || rest.starts_with("msg") => Kind::Ipc,
        ("fs", rest) if rest.starts_with("mqueue.") => Kind::Ipc,
        _ => return None,
    };
    Some((dotted, kind))
}

fn swap_separators(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            '/' => '.',
            '.' => '/',
            other => other,
        })
        .collect()
}
