//! Pods to be, as the kubelet reads them: JSON, close to how Kubernetes' documentation writes them.

use serde_json::{Map, Value, json};
use skiff_integration::client::BUSYBOX;

/// The end of a script that has nothing more to do: it waits for SIGTERM, and ends at once then.
pub(crate) const IDLE: &str = "trap exit TERM; sleep 100000 & wait";

/// A pod in the namespace `default` with these containers, and what `more` says of its spec. It is
/// given one second to end, its images are never pulled and it gets no token: there is nobody to
/// ask for one.
pub(crate) fn pod(name: &str, containers: &[Value], more: Value) -> Value {
    let mut spec = json!({
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "containers": containers,
    });
    merge(&mut spec, &more);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": spec,
    })
}

/// The label of pods whose containers come and go by themselves.
pub(crate) const RESTLESS: &str = "restless";

/// The same pod, of which it is known that its containers come and go by themselves.
pub(crate) fn restless(mut pod: Value) -> Value {
    merge(&mut pod["metadata"]["labels"], &json!({RESTLESS: "yes"}));
    pod
}

/// A container that runs a shell script, and what `more` says of it. It asks for some time of the
/// processor: one that does not hardly runs while others want to.
pub(crate) fn container(name: &str, script: &str, more: Value) -> Value {
    let mut container = json!({
        "name": name,
        "image": BUSYBOX,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "resources": {"requests": {"cpu": "10m"}},
    });
    merge(&mut container, &more);
    container
}

/// An init container that keeps running beside the others.
pub(crate) fn sidecar(name: &str, script: &str, more: Value) -> Value {
    let mut container = container(name, script, json!({"restartPolicy": "Always"}));
    merge(&mut container, &more);
    container
}

/// A container that does nothing.
pub(crate) fn idle(name: &str, more: Value) -> Value {
    container(name, IDLE, more)
}

/// A volume of the pod's own, mounted at `path`.
pub(crate) fn scratch(name: &str) -> Value {
    json!({"name": name, "emptyDir": {}})
}

/// A directory of the node.
pub(crate) fn host_directory(name: &str, path: &str) -> Value {
    json!({"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}})
}

/// A probe that asks every second, believes the first answer and has time for it.
pub(crate) fn probe(action: Value) -> Value {
    let mut probe = json!({"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 60});
    merge(&mut probe, &action);
    probe
}

/// A probe that runs a shell script.
pub(crate) fn exec(script: &str) -> Value {
    json!({"exec": {"command": ["sh", "-c", script]}})
}

/// Objects are merged key by key, everything else is replaced.
pub(crate) fn merge(into: &mut Value, changes: &Value) {
    let Value::Object(changes) = changes else {
        *into = changes.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, value) in changes {
        merge(&mut into[key], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_container_is_added() {
        let made = container("a", "true", json!({"resources": {"limits": {"cpu": 1}}}));
        assert_eq!(made["resources"]["limits"]["cpu"], 1);
        assert_eq!(made["image"], BUSYBOX);
    }

    #[test]
    fn lists_are_replaced() {
        let mut value = json!({"a": [1, 2], "b": 3});
        merge(&mut value, &json!({"a": [4]}));
        assert_eq!(value, json!({"a": [4], "b": 3}));
    }
}
