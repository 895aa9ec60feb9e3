//! Kernel parameters of a pod's namespaces.

use std::collections::BTreeMap;

use skiff_config::sysctl::{SysctlName, SysctlNamespace};

use crate::SpecError;
use crate::cri::PodSandboxConfig;
use crate::namespaces::pod_namespaces;

/// The parameters to set in a pod's namespaces: the configured defaults that apply to it, and the
/// request's, which must. Names are written as [`SysctlName`] prints them.
pub fn pod_sysctls(
    config: &PodSandboxConfig,
    defaults: &BTreeMap<SysctlName, String>,
) -> Result<BTreeMap<String, String>, SpecError> {
    let namespaces = pod_namespaces(config)?;
    let own = |name: &SysctlName| match name.namespace() {
        SysctlNamespace::Network => !namespaces.host_network,
        SysctlNamespace::Ipc => !namespaces.host_ipc,
    };
    let mut sysctls: BTreeMap<_, _> = defaults
        .iter()
        .filter(|(name, _)| own(name))
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect();
    let requested = config.linux.as_ref().map(|linux| linux.sysctls.iter());
    for (text, value) in requested.into_iter().flatten() {
        let field = format!("linux.sysctls[{text:?}]");
        let name: SysctlName = text
            .parse()
            .map_err(|reason: String| SpecError::invalid(field.as_str(), reason))?;
        if !own(&name) {
            let reason = "the pod shares the host's namespace, whose parameters are not its own";
            return Err(SpecError::invalid(field, reason));
        }
        sysctls.insert(name.to_string(), value.clone());
    }
    Ok(sysctls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::{
        LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    };

    fn pod(
        network: NamespaceMode,
        ipc: NamespaceMode,
        sysctls: &[(&str, &str)],
    ) -> PodSandboxConfig {
        let options = NamespaceOption {
            network: network as i32,
            ipc: ipc as i32,
            ..Default::default()
        };
        PodSandboxConfig {
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(options),
                    ..Default::default()
                }),
                sysctls: sysctls
                    .iter()
                    .map(|(k, v)| ((*k).into(), (*v).into()))
                    .collect(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn request_goes_before_defaults_and_those_only_where_they_apply() {
        let defaults: BTreeMap<SysctlName, String> =
            [("net.a", "1"), ("net.b", "1"), ("kernel.sem", "1")]
                .map(|(name, value)| (name.parse().unwrap(), value.to_owned()))
                .into();
        let (host, own) = (NamespaceMode::Node, NamespaceMode::Pod);
        let sysctls = pod_sysctls(&pod(own, own, &[("net/b", "2")]), &defaults).unwrap();
        let expected = [("kernel.sem", "1"), ("net.a", "1"), ("net.b", "2")];
        assert_eq!(
            sysctls,
            expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
        let sysctls = pod_sysctls(&pod(host, own, &[]), &defaults).unwrap();
        assert_eq!(sysctls.into_keys().collect::<Vec<_>>(), ["kernel.sem"]);
    }

    #[test]
    fn parameters_of_the_host_are_refused() {
        let (host, own) = (NamespaceMode::Node, NamespaceMode::Pod);
        for (pod, field) in [
            (
                pod(host, own, &[("net.a", "1")]),
                "linux.sysctls[\"net.a\"]",
            ),
            (
                pod(own, host, &[("kernel.sem", "1")]),
                "linux.sysctls[\"kernel.sem\"]",
            ),
            (
                pod(own, own, &[("vm.swappiness", "1")]),
                "linux.sysctls[\"vm.swappiness\"]",
            ),
        ] {
            assert_eq!(
                pod_sysctls(&pod, &BTreeMap::new()).unwrap_err().field(),
                field
            );
        }
    }
}
