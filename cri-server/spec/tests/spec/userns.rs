//! Pods with user namespaces.

use oci_spec::runtime::{LinuxNamespaceType, Mount as SpecMount, Spec};
use skiff_cri::v1::{
    IdMapping, Mount, MountPropagation, NamespaceMode, NamespaceOption, UserNamespace,
};
use skiff_spec::{PodNetwork, SpecError, check_user_namespace, pod_namespaces};

use crate::case::Case;

const FIELD: &str = "linux.security_context.namespace_options.userns_options";

fn mapping(host_id: u32, container_id: u32, length: u32) -> IdMapping {
    IdMapping {
        host_id,
        container_id,
        length,
    }
}

fn options(mode: NamespaceMode, uids: &[IdMapping], gids: &[IdMapping]) -> NamespaceOption {
    NamespaceOption {
        pid: NamespaceMode::Container as i32,
        userns_options: Some(UserNamespace {
            mode: mode as i32,
            uids: uids.to_vec(),
            gids: gids.to_vec(),
        }),
        ..Default::default()
    }
}

/// What a kubelet sends.
fn usual() -> NamespaceOption {
    let ids = [mapping(131_072, 0, 65_536)];
    options(NamespaceMode::Pod, &ids, &ids)
}

fn case() -> Case {
    let mut case = Case::plain();
    case.pod_security().namespace_options = Some(usual());
    case.security().namespace_options = Some(usual());
    case
}

fn mount_at<'a>(spec: &'a Spec, path: &str) -> &'a SpecMount {
    let mounts = spec.mounts().as_ref().unwrap();
    mounts
        .iter()
        .find(|mount| mount.destination().to_str() == Some(path))
        .unwrap()
}

fn words(mount: &SpecMount) -> Vec<&str> {
    let options = mount.options().as_ref().unwrap();
    options.iter().map(String::as_str).collect()
}

#[test]
fn what_a_kubelet_sends_is_taken_as_it_is() {
    let case = case();
    let pod = pod_namespaces(&case.pod_config).unwrap().user.unwrap();
    assert_eq!((pod.host_id, pod.length), (131_072, 65_536));
    let spec = case.spec();
    let linux = spec.linux().as_ref().unwrap();
    for list in [linux.uid_mappings(), linux.gid_mappings()] {
        let [one] = &list.as_ref().unwrap()[..] else {
            panic!("{list:?}")
        };
        let found = (one.container_id(), one.host_id(), one.size());
        assert_eq!(found, (0, 131_072, 65_536));
    }
    let mut namespaces = linux.namespaces().iter().flatten();
    let user = namespaces.find(|of| of.typ() == LinuxNamespaceType::User);
    assert_eq!(user.unwrap().path(), &None);
    for file in ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"] {
        let mount = mount_at(&spec, file);
        assert!(words(mount).contains(&"ridmap"), "{file}");
        assert_eq!(mount.uid_mappings(), linux.uid_mappings(), "{file}");
    }
    assert_eq!(mount_at(&spec, "/sys").typ().as_deref(), Some("sysfs"));
}

#[test]
fn a_container_that_says_nothing_follows_its_pod() {
    let mut case = case();
    case.security().namespace_options = None;
    let spec = case.spec();
    assert!(spec.linux().as_ref().unwrap().uid_mappings().is_some());
}

#[test]
fn other_forms_are_refused_by_field() {
    let good = [mapping(131_072, 0, 65_536)];
    let other = [mapping(1_000, 0, 65_536)];
    let two = [good[0], mapping(1_000_000, 65_536, 10)];
    let pod = NamespaceMode::Pod;
    for (options, field) in [
        (options(NamespaceMode::Container, &[], &[]), ".mode"),
        (options(NamespaceMode::Target, &[], &[]), ".mode"),
        (options(NamespaceMode::Node, &good, &good), ".uids"),
        (options(pod, &[], &[]), ".uids"),
        (options(pod, &good, &[]), ".gids"),
        (options(pod, &[], &good), ".uids"),
        (options(pod, &two, &two), ".uids"),
        (options(pod, &good, &two), ".gids"),
        (options(pod, &good, &other), ".gids"),
        (options(pod, &[mapping(1000, 1, 10)], &good), ".uids"),
        (options(pod, &[mapping(1000, 0, 0)], &good), ".uids"),
        (options(pod, &[mapping(0, 0, 10)], &good), ".uids"),
        (options(pod, &[mapping(u32::MAX, 0, 1)], &good), ".uids"),
        (options(pod, &[mapping(2, 0, u32::MAX)], &good), ".uids"),
    ] {
        let mut case = Case::plain();
        case.pod_security().namespace_options = Some(options.clone());
        let error = pod_namespaces(&case.pod_config).unwrap_err();
        assert_eq!(error.field(), format!("{FIELD}{field}"), "{options:?}");
        case.security().namespace_options = Some(options);
        assert!(case.build().is_err());
    }
    let all = [mapping(1, 0, u32::MAX - 1)];
    let mut case = Case::plain();
    case.pod_security().namespace_options = Some(options(pod, &all, &all));
    assert!(pod_namespaces(&case.pod_config).is_ok());
}

#[test]
fn the_hosts_pids_and_ipc_are_refused_beside_it() {
    for field in ["pid", "ipc"] {
        let mut options = usual();
        match field {
            "pid" => options.pid = NamespaceMode::Node as i32,
            _ => options.ipc = NamespaceMode::Node as i32,
        }
        let mut case = Case::plain();
        case.pod_security().namespace_options = Some(options);
        let error = pod_namespaces(&case.pod_config).unwrap_err();
        let field = format!("linux.security_context.namespace_options.{field}");
        assert_eq!(error.field(), field);
    }
}

#[test]
fn the_hosts_network_shows_the_hosts_sysfs() {
    let mut case = case();
    let mut options = usual();
    options.network = NamespaceMode::Node as i32;
    case.pod_security().namespace_options = Some(options.clone());
    case.security().namespace_options = Some(options);
    case.pod.network = PodNetwork::Host;
    let spec = case.spec();
    let sys = mount_at(&spec, "/sys");
    assert_eq!(sys.typ().as_deref(), Some("bind"));
    assert_eq!(sys.source().as_deref(), Some("/sys".as_ref()));
    let words = words(sys);
    assert!(words.contains(&"ro") && words.contains(&"bind") && !words.contains(&"rbind"));
}

#[test]
fn a_container_in_another_user_namespace_than_its_pod_is_refused() {
    let other = [mapping(1_000_000, 0, 65_536)];
    for options in [
        options(NamespaceMode::Pod, &other, &other),
        options(NamespaceMode::Node, &[], &[]),
        NamespaceOption {
            userns_options: None,
            ..usual()
        },
    ] {
        let mut case = case();
        case.security().namespace_options = Some(options);
        assert_eq!(case.refused(), FIELD);
    }
    let mut case = Case::plain();
    case.security().namespace_options = Some(usual());
    case.pod_security().namespace_options = Some(options(NamespaceMode::Node, &[], &[]));
    assert_eq!(case.refused(), FIELD);
}

#[test]
fn who_the_container_runs_as_must_be_mapped() {
    let mut case = case();
    case.user.uid = 65_536;
    assert_eq!(case.refused(), "linux.security_context.run_as_user");
    case.user.uid = 65_535;
    case.user.gid = 70_000;
    assert_eq!(case.refused(), "linux.security_context.run_as_group");
    case.user.gid = 0;
    case.user.groups = vec![0, 1000, 70_000];
    assert_eq!(case.refused(), "linux.security_context.supplemental_groups");
    case.user.groups.pop();
    case.spec();
}

fn volume() -> Mount {
    Mount {
        container_path: "/data".into(),
        host_path: "/v".into(),
        uid_mappings: vec![mapping(131_072, 0, 65_536)],
        gid_mappings: vec![mapping(131_072, 0, 65_536)],
        ..Default::default()
    }
}

#[test]
fn volumes_are_mapped_as_they_ask() {
    let mut case = case();
    let unmapped = Mount {
        container_path: "/plain".into(),
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
        ..volume()
    };
    let odd = Mount {
        container_path: "/odd".into(),
        gid_mappings: vec![mapping(131_072, 1000, 1)],
        ..volume()
    };
    case.config.mounts = vec![volume(), unmapped, odd];
    let spec = case.spec();
    let data = mount_at(&spec, "/data");
    assert!(words(data).contains(&"ridmap"));
    assert_eq!(data.uid_mappings().as_ref().unwrap()[0].host_id(), 131_072);
    let plain = mount_at(&spec, "/plain");
    assert!(plain.uid_mappings().is_none() && !words(plain).contains(&"ridmap"));
    let odd = mount_at(&spec, "/odd").gid_mappings().as_ref().unwrap()[0];
    assert_eq!((odd.container_id(), odd.size()), (1000, 1));
}

#[test]
fn a_volume_that_cannot_be_mapped_as_it_asks_is_refused() {
    let mut case = case();
    let mut half = volume();
    half.gid_mappings.clear();
    case.config.mounts = vec![half];
    assert_eq!(case.refused(), "mounts[0].gidMappings");
    let mut shared = volume();
    shared.propagation = MountPropagation::PropagationBidirectional as i32;
    case.config.mounts = vec![shared];
    assert_eq!(case.refused(), "mounts[0].propagation");
    let mut case = Case::plain();
    case.config.mounts = vec![volume()];
    assert_eq!(case.refused(), "mounts[0].uidMappings");
}

#[test]
fn devices_stay_root_of_the_hosts() {
    let mut case = case();
    case.pod_security().privileged = true;
    case.security().privileged = true;
    case.devices.host = vec![skiff_spec::HostDevice {
        path: "/dev/sda".into(),
        kind: oci_spec::runtime::LinuxDeviceType::B,
        major: 8,
        minor: 0,
        mode: 0o660,
        uid: 0,
        gid: 6,
    }];
    let spec = case.spec();
    let devices = spec.linux().as_ref().unwrap().devices().clone().unwrap();
    assert_eq!((devices[0].uid(), devices[0].gid()), (None, None));
}

#[test]
fn a_host_that_cannot_says_why() {
    let case = case();
    let user = pod_namespaces(&case.pod_config).unwrap().user;
    let mut host = case.host.clone();
    host.user_namespaces = Err("map the ids of a tmpfs: no".into());
    let error = check_user_namespace(user.as_ref(), &host).unwrap_err();
    assert!(matches!(&error, SpecError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("map the ids of a tmpfs"));
    check_user_namespace(None, &host).unwrap();
    host.user_namespaces = Ok(());
    check_user_namespace(user.as_ref(), &host).unwrap();
}

#[test]
fn an_image_volume_has_the_pods_ids_unless_others_are_given() {
    let mut case = case();
    let image = Mount {
        container_path: "/models".into(),
        readonly: true,
        image: Some(skiff_cri::v1::ImageSpec {
            image: "sha256:abc".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut given = image.clone();
    given.container_path = "/given".into();
    given.uid_mappings = vec![mapping(200_000, 0, 10)];
    given.gid_mappings = vec![mapping(200_000, 0, 10)];
    case.config.mounts = vec![image, given];
    let spec = case.spec();
    let host_id = |path: &str| {
        let mount = mount_at(&spec, path);
        assert!(words(mount).contains(&"ridmap"), "{path}");
        mount.uid_mappings().as_ref().unwrap()[0].host_id()
    };
    assert_eq!(host_id("/models"), 131_072);
    assert_eq!(host_id("/given"), 200_000);
}
