//! What a container's image needs under a signature policy, asked by a client.

mod support;

use skiff_signature::Settings;
use support::{IMAGE, Node, Running, container, host_pod, refused};
use tonic::Code;

const REJECT: &str = r#"{"default":[{"type":"reject"}]}"#;
const ACCEPT: &str = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;

/// Gives the daemon a policy for all, and one for the namespace `own`.
fn policies(node: &Node, daemon: &Running, all: &str, own: &str) {
    let (policy, dir) = (node.path("policy.json"), node.path("policies"));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(&policy, all).unwrap();
    std::fs::write(dir.join("own.json"), own).unwrap();
    let settings = Settings {
        policy: Some(policy),
        dir: Some(dir),
    };
    daemon.daemon.signatures.reload(settings).unwrap();
}

fn run_pod(daemon: &Running, namespace: &str) -> String {
    let mut config = host_pod(namespace);
    config.metadata.as_mut().unwrap().namespace = namespace.into();
    daemon.run_pod(&config).unwrap()
}

#[test]
fn a_container_is_made_as_the_policy_of_its_namespace_says() {
    let node = Node::new();
    let daemon = node.start();
    let (own, other) = (run_pod(&daemon, "own"), run_pod(&daemon, "other"));
    policies(&node, &daemon, REJECT, ACCEPT);
    daemon.create(&own, &container("a")).unwrap();
    let status = daemon.create(&other, &container("a")).unwrap_err();
    assert_eq!(status.code(), Code::Unknown, "a kubelet looks at no other");
    let message = status.message();
    assert!(
        message.starts_with("SignatureValidationFailed: Source image rejected: "),
        "{message}"
    );
    assert!(
        message.contains(IMAGE) && message.contains("policy.json"),
        "{message}"
    );
    policies(&node, &daemon, ACCEPT, REJECT);
    daemon.create(&other, &container("a")).unwrap();
    refused(
        daemon.create(&own, &container("b")),
        Code::Unknown,
        "own.json",
    );
}

#[test]
fn the_name_in_the_pod_is_the_one_that_counts() {
    let node = Node::new();
    let daemon = node.start();
    let pod = run_pod(&daemon, "other");
    let scoped = r#"{"default":[{"type":"reject"}],"transports":{"docker":{"good.test":[{"type":"insecureAcceptAnything"}]}}}"#;
    policies(&node, &daemon, scoped, ACCEPT);
    let named = |name: &str| {
        let mut config = container("a");
        config.image.as_mut().unwrap().user_specified_image = name.into();
        config
    };
    refused(
        daemon.create(&pod, &named("bad.test/a:1")),
        Code::Unknown,
        "bad.test/a:1",
    );
    refused(daemon.create(&pod, &named("")), Code::Unknown, IMAGE);
    daemon.create(&pod, &named("good.test/a:1")).unwrap();
}

#[test]
fn a_refused_container_leaves_nothing() {
    let node = Node::new();
    let daemon = node.start();
    let pod = run_pod(&daemon, "other");
    let before = node.left();
    policies(&node, &daemon, REJECT, ACCEPT);
    assert!(daemon.create(&pod, &container("a")).is_err());
    assert_eq!(node.left(), before);
}
