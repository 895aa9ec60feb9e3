//! Annotations that say which pod a specification belongs to, under the names that node tools
//! already look for (`io.kubernetes.cri.*`, as containerd writes them).

use std::collections::HashMap;

use crate::input::Input;

/// The annotations of a container. The request's own annotations are the CRI's business: they
/// come back in ContainerStatus and do not reach the runtime.
pub(crate) fn annotations(input: &Input<'_>) -> HashMap<String, String> {
    let pod = input.pod_config.metadata.clone().unwrap_or_default();
    let name = input
        .config
        .metadata
        .as_ref()
        .map(|m| m.name.clone())
        .unwrap_or_default();
    [
        ("container-type", "container".to_owned()),
        ("container-name", name),
        ("image-name", input.image_name.to_owned()),
        ("sandbox-id", input.pod.id.clone()),
        ("sandbox-name", pod.name),
        ("sandbox-namespace", pod.namespace),
        ("sandbox-uid", pod.uid),
    ]
    .into_iter()
    .map(|(key, value)| (format!("io.kubernetes.cri.{key}"), value))
    .collect()
}
