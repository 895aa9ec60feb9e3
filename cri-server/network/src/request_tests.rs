//! Tests of the parent module.

use super::*;
use crate::network::Draft;
use crate::pod::Protocol;
use proptest::prelude::*;

fn pod() -> Pod {
    Pod {
        id: "p1".into(),
        name: "web".into(),
        namespace: "default".into(),
        uid: "u-1".into(),
        netns: "/run/netns/x".into(),
        ..Pod::default()
    }
}

fn plugin(capabilities: Value) -> Plugin {
    let json = json!({"name":"n","cniVersion":"1.0.0","type":"a","capabilities":capabilities});
    Draft::parse(json.to_string().as_bytes())
        .unwrap()
        .finish()
        .unwrap()
        .plugins
        .remove(0)
}

fn request(capabilities: Value, pod: &Pod, previous: Option<&Value>) -> Value {
    serde_json::from_str(&pod_request(&plugin(capabilities), pod, previous).unwrap()).unwrap()
}

#[test]
fn a_plain_request_is_the_configuration() {
    let expected = json!({"name":"n","cniVersion":"1.0.0","type":"a"});
    assert_eq!(request(json!({"unheard-of": true}), &pod(), None), expected);
    let previous = json!({"ips": []});
    assert_eq!(
        request(json!({}), &pod(), Some(&previous))["prevResult"],
        previous
    );
}

#[test]
fn only_declared_capabilities_are_told() {
    let mut pod = pod();
    pod.annotations.insert(INGRESS.into(), "10M".into());
    pod.dns.servers.push("10.0.0.10".into());
    pod.cgroup_parent = Some("/kubepods/x".into());
    assert!(
        request(json!({}), &pod, None)
            .get("runtimeConfig")
            .is_none()
    );
    let all = json!({"dns": true, "bandwidth": true, "cgroupPath": true,
        "io.kubernetes.cri.pod-annotations": true, "portMappings": true});
    assert_eq!(
        request(all, &pod, None)["runtimeConfig"],
        json!({
            "dns": {"servers": ["10.0.0.10"]},
            "bandwidth": {"ingressRate": 10_000_000, "ingressBurst": i32::MAX},
            "cgroupPath": "/kubepods/x",
            "io.kubernetes.cri.pod-annotations": {INGRESS: "10M"},
        })
    );
}

#[test]
fn host_ports_are_written_as_portmap_reads_them() {
    let mut pod = pod();
    let port = |host_port, protocol, host_ip: Option<&str>| PortMapping {
        host_port,
        container_port: 80,
        protocol,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
    };
    pod.port_mappings = vec![
        port(8080, Protocol::Tcp, None),
        port(0, Protocol::Tcp, None),
        port(53, Protocol::Udp, Some("::1")),
        port(54, Protocol::Sctp, Some("127.0.0.1")),
    ];
    assert_eq!(
        request(json!({"portMappings": true}), &pod, None)["runtimeConfig"]["portMappings"],
        json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 80, "protocol": "udp", "hostIP": "::1"},
            {"hostPort": 54, "containerPort": 80, "protocol": "sctp", "hostIP": "127.0.0.1"},
        ])
    );
}

#[test]
fn the_environment_names_the_pod() {
    let environment = pod_environment(Verb::Del, &pod(), None);
    let get = |key| {
        environment
            .iter()
            .find(|(k, _)| *k == key)
            .unwrap()
            .1
            .to_str()
            .unwrap()
    };
    assert_eq!(get("CNI_COMMAND"), "DEL");
    assert_eq!(get("CNI_NETNS"), "");
    assert_eq!(get("CNI_IFNAME"), "eth0");
    assert_eq!(
        get("CNI_ARGS"),
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;\
         K8S_POD_INFRA_CONTAINER_ID=p1;K8S_POD_UID=u-1"
    );
}

#[test]
fn gc_names_the_valid_attachments() {
    let ids = ["a".to_owned(), "b".to_owned()];
    let request: Value = serde_json::from_str(&gc_request(&plugin(json!({})), ids.iter())).unwrap();
    let valid = json!([{"containerID":"a","ifname":"eth0"},{"containerID":"b","ifname":"eth0"}]);
    assert_eq!(request["cni.dev/valid-attachments"], valid);
    assert_eq!(request["cni.dev/attachments"], valid);
}

#[test]
fn a_pod_that_cannot_be_named_is_refused() {
    assert_eq!(validate(&pod()), Ok(()));
    for id in ["", "../x", "a/b", ".a", "a b"] {
        assert!(matches!(
            validate(&Pod {
                id: id.into(),
                ..pod()
            }),
            Err(BadPod::Id(_))
        ));
    }
    let named = Pod {
        name: "a;K8S_POD_UID=other".into(),
        ..pod()
    };
    assert!(
        validate(&named)
            .unwrap_err()
            .to_string()
            .starts_with("pod name")
    );
    let mut limited = pod();
    limited.annotations.insert(EGRESS.into(), "much".into());
    assert!(validate(&limited).unwrap_err().to_string().contains(EGRESS));
}

#[test]
fn quantities_are_those_of_kubernetes() {
    for (text, expected) in [
        ("1000", Some(1000.0)),
        ("10M", Some(1e7)),
        ("1.5G", Some(1.5e9)),
        ("2Ki", Some(2048.0)),
        ("", None),
        ("M", None),
        ("-1M", None),
        ("1m", None),
        ("1..5M", None),
    ] {
        assert_eq!(quantity(text), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn any_bandwidth_is_a_rate_or_refused(value in "\\PC{0,12}") {
        let mut pod = pod();
        pod.annotations.insert(INGRESS.into(), value);
        if let Ok(Some(limits)) = bandwidth(&pod) {
            prop_assert!(limits["ingressRate"].as_i64().unwrap() >= 1000);
        }
    }
}
