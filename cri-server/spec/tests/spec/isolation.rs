//! Namespaces, mounts and security profiles: what is refused, by which field, and what becomes
//! of the rest.

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use skiff_cri::v1::{
    IdMapping, Mount, MountPropagation, NamespaceMode, NamespaceOption, WindowsContainerConfig,
};
use skiff_spec::{PodNetwork, pod_namespaces};

use crate::case::{Case, pid};

fn path_of(spec: &Spec, kind: LinuxNamespaceType) -> Option<Option<String>> {
    let namespaces = spec.linux().clone().unwrap().namespaces().clone().unwrap();
    let found = namespaces
        .iter()
        .find(|namespace| namespace.typ() == kind)?;
    Some(found.path().as_ref().map(|path| path.display().to_string()))
}

#[test]
fn pid_namespace_is_own_shared_host_or_anothers() {
    let mut case = Case::plain();
    case.pod.init_pid = Some(50);
    case.target_pid = Some(60);
    for (mode, expected) in [
        (NamespaceMode::Container, Some(None)),
        (NamespaceMode::Pod, Some(Some("/proc/50/ns/pid"))),
        (NamespaceMode::Node, None),
        (NamespaceMode::Target, Some(Some("/proc/60/ns/pid"))),
    ] {
        case.security().namespace_options = Some(pid(mode));
        let expected = expected.map(|path| path.map(str::to_owned));
        assert_eq!(
            path_of(&case.spec(), LinuxNamespaceType::Pid),
            expected,
            "{mode:?}"
        );
    }
}

#[test]
fn pid_namespaces_that_do_not_exist_are_refused() {
    let mut case = Case::plain();
    let field = "linux.security_context.namespace_options";
    case.security().namespace_options = Some(pid(NamespaceMode::Pod));
    assert_eq!(case.refused(), format!("{field}.pid"));
    case.security().namespace_options = Some(pid(NamespaceMode::Target));
    assert_eq!(case.refused(), format!("{field}.target_id"));
    case.security().namespace_options = Some(NamespaceOption {
        pid: 9,
        ..Default::default()
    });
    assert_eq!(case.refused(), format!("{field}.pid"));
}

#[test]
fn pod_mode_in_a_pod_with_host_pid_is_the_host() {
    let mut case = Case::plain();
    case.pod_security().namespace_options = Some(pid(NamespaceMode::Node));
    case.security().namespace_options = Some(pid(NamespaceMode::Pod));
    assert_eq!(path_of(&case.spec(), LinuxNamespaceType::Pid), None);
}

#[test]
fn namespaces_of_the_host_need_a_pod_of_the_host() {
    for (name, options) in [
        (
            "network",
            NamespaceOption {
                network: 2,
                pid: 1,
                ..Default::default()
            },
        ),
        (
            "ipc",
            NamespaceOption {
                ipc: 2,
                pid: 1,
                ..Default::default()
            },
        ),
        (
            "network",
            NamespaceOption {
                network: 1,
                pid: 1,
                ..Default::default()
            },
        ),
        (
            "ipc",
            NamespaceOption {
                ipc: 3,
                pid: 1,
                ..Default::default()
            },
        ),
    ] {
        let mut case = Case::plain();
        case.security().namespace_options = Some(options);
        assert_eq!(
            case.refused(),
            format!("linux.security_context.namespace_options.{name}")
        );
    }
    let mut case = Case::plain();
    case.pod.network = PodNetwork::Host;
    case.pod.host_ipc = true;
    let spec = case.spec();
    for kind in [
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Ipc,
    ] {
        assert_eq!(path_of(&spec, kind), None, "{kind:?}");
    }
}

#[test]
fn a_pod_cannot_target_a_container() {
    let mut case = Case::plain();
    case.pod_security().namespace_options = Some(pid(NamespaceMode::Target));
    assert!(pod_namespaces(&case.pod_config).is_err());
    case.pod_security().namespace_options = None;
    assert!(
        pod_namespaces(&case.pod_config).unwrap().shared_pid,
        "POD is the CRI's zero"
    );
}

fn mount() -> Mount {
    Mount {
        container_path: "/data".into(),
        host_path: "/v".into(),
        ..Default::default()
    }
}

#[test]
fn bad_mounts_are_refused() {
    let bidirectional = MountPropagation::PropagationBidirectional as i32;
    for (name, mount) in [
        (
            "container_path",
            Mount {
                container_path: "data".into(),
                ..mount()
            },
        ),
        (
            "container_path",
            Mount {
                container_path: "/a/../b".into(),
                ..mount()
            },
        ),
        (
            "container_path",
            Mount {
                container_path: "//".into(),
                ..mount()
            },
        ),
        (
            "host_path",
            Mount {
                host_path: "v".into(),
                ..mount()
            },
        ),
        (
            "host_path",
            Mount {
                host_path: String::new(),
                ..mount()
            },
        ),
        (
            "propagation",
            Mount {
                propagation: 7,
                ..mount()
            },
        ),
        (
            "recursive_read_only",
            Mount {
                recursive_read_only: true,
                ..mount()
            },
        ),
        (
            "recursive_read_only",
            Mount {
                recursive_read_only: true,
                readonly: true,
                propagation: bidirectional,
                ..mount()
            },
        ),
        (
            "uidMappings",
            Mount {
                uid_mappings: vec![IdMapping::default()],
                ..mount()
            },
        ),
        (
            "gidMappings",
            Mount {
                gid_mappings: vec![IdMapping::default()],
                ..mount()
            },
        ),
        (
            "image_sub_path",
            Mount {
                image_sub_path: "x".into(),
                ..mount()
            },
        ),
        (
            "mount_options",
            Mount {
                mount_options: vec!["suid".into()],
                ..mount()
            },
        ),
    ] {
        let mut case = Case::plain();
        case.config.mounts = vec![self::mount(), mount];
        assert_eq!(case.refused(), format!("mounts[1].{name}"));
    }
}

#[test]
fn recursive_read_only_on_an_old_kernel_fails_with_the_kubelets_word() {
    let mut case = Case::plain();
    case.host.recursive_read_only = false;
    case.config.mounts = vec![Mount {
        recursive_read_only: true,
        readonly: true,
        ..mount()
    }];
    assert!(
        case.build()
            .unwrap_err()
            .to_string()
            .starts_with("RROUnsupported")
    );
}

#[test]
fn empty_path_lists_of_a_security_context_hide_nothing() {
    let mut case = Case::plain();
    case.security();
    let linux = case.spec().linux().clone().unwrap();
    assert_eq!(linux.masked_paths(), &Some(Vec::new()));
    assert_eq!(linux.readonly_paths(), &Some(Vec::new()));
    case.security().masked_paths = vec!["proc".into()];
    assert_eq!(case.refused(), "linux.security_context.masked_paths");
}

#[test]
fn windows_requests_are_refused() {
    let mut case = Case::plain();
    case.config.windows = Some(WindowsContainerConfig::default());
    assert_eq!(case.refused(), "windows");
}

#[test]
fn no_specification_names_the_host() {
    assert_eq!(Case::plain().spec().hostname(), &None);
}
