//! Tests of the parent module: real answers of every version, and hostile ones.

use proptest::prelude::*;

use super::*;

/// What the reference bridge plugin answered, once per form and newest version.
const CORPUS: [(&str, Version); 5] = [
    (include_str!("corpus/0.2.0.json"), Version::V0_2_0),
    (include_str!("corpus/0.3.1.json"), Version::V0_3_1),
    (include_str!("corpus/0.4.0.json"), Version::V0_4_0),
    (include_str!("corpus/1.0.0.json"), Version::V1_0_0),
    (include_str!("corpus/1.1.0.json"), Version::V1_1_0),
];

const PLAIN: &str = r#"{"cniVersion":"1.1.0",
    "interfaces":[{"name":"cni0","mac":"aa"},{"name":"veth1"},
                  {"name":"eth0","sandbox":"/run/netns/a","mtu":1500}],
    "ips":[{"interface":2,"address":"10.1.0.5/16","gateway":"10.1.0.1"},
           {"interface":0,"address":"10.1.0.1/16"},
           {"interface":2,"address":"fd00::5/64"}],
    "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0","gw":"fd00::1","priority":5}],
    "dns":{"nameservers":["10.1.0.1"]},"vendor":{"a":1}}"#;

const LEGACY: &str = r#"{"cniVersion":"0.2.0",
    "ip4":{"ip":"10.1.0.5/16","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"}]},
    "ip6":{"ip":"fd00::5/64","routes":null},"dns":{}}"#;

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[test]
fn the_pods_addresses_are_those_of_its_interface() {
    let (success, _) = parse(PLAIN.as_bytes(), Version::V1_1_0).unwrap();
    assert_eq!(success.pod_ips("eth0"), ips(&["10.1.0.5", "fd00::5"]));
}

#[test]
fn the_reference_plugins_answers_are_dual_stack_in_every_version() {
    for (json, version) in CORPUS {
        let (success, document) = parse(json.as_bytes(), version).unwrap();
        let ips = success.pod_ips("eth0");
        assert!(
            ips.len() == 2 && ips[0].is_ipv4() && ips[1].is_ipv6(),
            "{version}: {ips:?}"
        );
        assert_eq!(success.dns.nameservers, ["10.9.0.1"], "{version}");
        assert_eq!(success.routes.len(), 1, "{version}");
        assert_eq!(
            document,
            serde_json::from_str::<Value>(json).unwrap(),
            "{version}"
        );
    }
}

#[test]
fn without_interface_numbers_all_addresses_are_the_pods() {
    let json = r#"{"ips":[{"address":"10.0.0.2/24"},{"address":"fd00::2/64","interface":-1}]}"#;
    let (success, _) = parse(json.as_bytes(), Version::V1_0_0).unwrap();
    assert_eq!(success.pod_ips("eth0"), ips(&["10.0.0.2", "fd00::2"]));
}

#[test]
fn an_interface_of_another_name_serves_when_there_is_no_eth0() {
    let json = r#"{"interfaces":[{"name":"br0"},{"name":"net1","sandbox":"/run/netns/a"}],
        "ips":[{"address":"10.0.0.1/24","interface":0},{"address":"10.0.0.2/24","interface":1}]}"#;
    let (success, _) = parse(json.as_bytes(), Version::V1_0_0).unwrap();
    assert_eq!(success.pod_ips("eth0"), ips(&["10.0.0.2"]));
}

#[test]
fn unknown_keys_reach_the_next_plugin() {
    let (_, document) = parse(PLAIN.as_bytes(), Version::V1_0_0).unwrap();
    assert_eq!(document["vendor"], json!({"a": 1}));
    assert_eq!(document["cniVersion"], "1.0.0");
}

#[test]
fn legacy_answers_are_read() {
    let (success, document) = parse(LEGACY.as_bytes(), Version::V0_1_0).unwrap();
    assert_eq!(success.pod_ips("eth0"), ips(&["10.1.0.5", "fd00::5"]));
    assert_eq!(success.routes.len(), 1);
    assert_eq!(document["cniVersion"], "0.1.0");
    assert_eq!(document["ip4"]["ip"], "10.1.0.5/16");
}

#[test]
fn an_answer_in_another_form_is_converted() {
    let (_, document) = parse(LEGACY.as_bytes(), Version::V0_4_0).unwrap();
    assert_eq!(
        document["ips"],
        json!([{"address":"10.1.0.5/16","gateway":"10.1.0.1","version":"4"},
               {"address":"fd00::5/64","version":"6"}])
    );
    let (_, document) = parse(PLAIN.as_bytes(), Version::V0_2_0).unwrap();
    assert_eq!(document["ip4"]["routes"], json!([{"dst":"0.0.0.0/0"}]));
    assert_eq!(document["ip6"]["ip"], "fd00::5/64");
    assert_eq!(document["cniVersion"], "0.2.0");
    let tagged = r#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.1.0.5/16"}]}"#;
    let (_, document) = parse(tagged.as_bytes(), Version::V1_0_0).unwrap();
    assert_eq!(document["ips"], json!([{"address":"10.1.0.5/16"}]));
}

#[test]
fn nulls_of_go_are_empty() {
    let json = r#"{"cniVersion":null,"interfaces":null,"ips":null,"routes":null,"dns":null}"#;
    let (success, _) = parse(json.as_bytes(), Version::V1_0_0).unwrap();
    assert_eq!(success, Success::default());
}

#[test]
fn garbage_is_refused() {
    for json in [
        "",
        "hello",
        "[]",
        "7",
        r#"{"cniVersion":"3.0.0"}"#,
        r#"{"cniVersion":{}}"#,
        r#"{"ips":[{"address":"10.0.0.1"}]}"#,
        r#"{"ips":[{"address":"10.0.0.1/33"}]}"#,
        r#"{"ips":[{}]}"#,
        r#"{"ips":{}}"#,
    ] {
        assert!(parse(json.as_bytes(), Version::V1_0_0).is_err(), "{json}");
    }
}

fn any_version() -> impl Strategy<Value = Version> {
    prop_oneof![
        Just(Version::V0_1_0),
        Just(Version::V0_2_0),
        Just(Version::V0_3_0),
        Just(Version::V0_3_1),
        Just(Version::V0_4_0),
        Just(Version::V1_0_0),
        Just(Version::V1_1_0)
    ]
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(
        json in proptest::collection::vec(any::<u8>(), 0..200), asked in any_version(),
    ) {
        let _ = parse(&json, asked);
    }

    #[test]
    fn damaged_answers_never_panic(
        seed in 0..CORPUS.len(), at: prop::sample::Index, damage in any::<[u8; 2]>(),
        cut: bool, asked in any_version(),
    ) {
        let mut json = CORPUS[seed].0.as_bytes().to_vec();
        let at = at.index(json.len() - 1);
        json[at..at + 2].copy_from_slice(&damage);
        if cut {
            json.remove(at);
        }
        if let Ok((success, _)) = parse(&json, asked) {
            success.pod_ips("eth0");
        }
    }

    #[test]
    fn a_converted_answer_keeps_the_pods_first_addresses(asked in any_version(), legacy: bool) {
        let json = if legacy { LEGACY } else { PLAIN };
        let (_, document) = parse(json.as_bytes(), asked).unwrap();
        let (again, same) = parse(document.to_string().as_bytes(), asked).unwrap();
        prop_assert_eq!(&again.pod_ips("eth0")[0], &"10.1.0.5".parse::<IpAddr>().unwrap());
        prop_assert_eq!(document, same);
    }
}
