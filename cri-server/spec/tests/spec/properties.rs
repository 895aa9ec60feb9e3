//! What holds for every request, however odd.

use std::collections::BTreeSet;

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use proptest::prelude::*;
use skiff_cri::v1::{Capability, KeyValue, Mount, NamespaceOption};

use crate::case::Case;

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a/]{0,3}", 0..3)
}

fn capability() -> impl Strategy<Value = Vec<String>> {
    let name = prop_oneof![
        5 => Just("ALL"),
        5 => Just("NET_ADMIN"),
        5 => Just("cap_chown"),
        1 => Just("SYS_TIME"),
        1 => Just("NONSENSE"),
    ];
    prop::collection::vec(name.prop_map(str::to_owned), 0..3)
}

fn mount() -> impl Strategy<Value = Mount> {
    let path = || {
        prop_oneof![
            5 => Just("/dev/shm"),
            5 => Just("/etc/hosts"),
            5 => Just("/a//b/"),
            5 => Just("/a"),
            1 => Just("/../etc"),
            1 => Just("rel"),
            1 => Just("")
        ]
        .prop_map(str::to_owned)
    };
    (
        path(),
        path(),
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop_oneof![9 => 0..3, 1 => -1..4],
    )
        .prop_map(
            |(container_path, host_path, readonly, recursive_read_only, propagation)| Mount {
                container_path,
                host_path,
                readonly,
                recursive_read_only,
                propagation,
                ..Default::default()
            },
        )
}

fn case() -> impl Strategy<Value = Case> {
    let env = prop::collection::vec(("[AB]{1,2}|=", "[a=é]{0,3}|\0"), 0..4);
    let process = (words(), words(), words(), env, any::<bool>());
    let sets = (capability(), capability(), capability());
    let security = (
        any::<bool>(),
        any::<bool>(),
        -1..5,
        -1..5,
        -1..5,
        prop::option::of(1..9),
    );
    let resources = (-2i64..3, -2i64..3, -2i64..3, any::<bool>(), any::<bool>());
    let mounts = prop::collection::vec(mount(), 0..4);
    (process, sets, security, resources, mounts).prop_map(
        |(process, sets, security, resources, mounts)| {
            let mut case = Case::plain();
            let (command, args, entrypoint, env, tty) = process;
            case.config.command = command;
            case.config.args = args;
            case.image.entrypoint = entrypoint;
            let env = env.into_iter().map(|(key, value)| KeyValue {
                key,
                value: value.into_bytes(),
            });
            case.config.envs = env.collect();
            case.config.tty = tty;
            case.config.mounts = mounts;
            let (pod_privileged, privileged, network, pid, ipc, init) = security;
            case.pod_security().privileged = pod_privileged;
            case.pod.init_pid = init;
            let context = case.security();
            context.privileged = privileged;
            context.namespace_options = Some(NamespaceOption {
                network,
                pid,
                ipc,
                ..Default::default()
            });
            let (add_capabilities, drop_capabilities, add_ambient_capabilities) = sets;
            context.capabilities = Some(Capability {
                add_capabilities,
                drop_capabilities,
                add_ambient_capabilities,
            });
            let (memory, swap, cpu, accounting, hugetlb) = resources;
            case.resources().memory_limit_in_bytes = memory;
            case.resources().memory_swap_limit_in_bytes = swap;
            case.resources().cpu_quota = cpu;
            case.host.swap_accounting = accounting;
            case.host.hugetlb = hugetlb;
            case
        },
    )
}

fn check(case: &Case, spec: &Spec) -> Result<(), TestCaseError> {
    let process = spec.process().clone().unwrap();
    prop_assert!(!process.args().as_ref().unwrap().is_empty());
    let env = process.env().clone().unwrap();
    let names: BTreeSet<_> = env.iter().map(|entry| entry.split('=').next()).collect();
    prop_assert_eq!(names.len(), env.len());

    let sets = process.capabilities().clone().unwrap();
    let bounding = sets.bounding().clone().unwrap();
    prop_assert!(bounding.is_subset(&case.host.bounding));
    prop_assert!(sets.ambient().as_ref().unwrap().is_subset(&bounding));

    let linux = spec.linux().clone().unwrap();
    let namespaces = linux.namespaces().clone().unwrap();
    let has = |kind| namespaces.iter().any(|namespace| namespace.typ() == kind);
    let privileged = case
        .config
        .linux
        .as_ref()
        .unwrap()
        .security_context
        .as_ref()
        .unwrap()
        .privileged;
    for kind in [
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Ipc,
    ] {
        prop_assert!(
            has(kind),
            "{kind:?} of a pod that shares nothing with the host"
        );
    }
    prop_assert_eq!(has(LinuxNamespaceType::Cgroup), !privileged);

    let first = linux
        .resources()
        .clone()
        .unwrap()
        .devices()
        .clone()
        .unwrap()[0]
        .clone();
    prop_assert_eq!(first.allow(), privileged);

    let mounts = spec.mounts().clone().unwrap();
    for request in &case.config.mounts {
        let found = mounts.iter().any(|mount| {
            mount
                .destination()
                .iter()
                .eq(std::path::Path::new(&request.container_path).iter())
                && mount
                    .source()
                    .as_ref()
                    .is_some_and(|s| s.as_os_str() == request.host_path.as_str())
        });
        prop_assert!(found, "{request:?}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_request_is_refused_by_field_or_carried_out(case in case()) {
        match case.build() {
            Ok(spec) => check(&case, &spec)?,
            Err(e) => prop_assert!(!e.field().is_empty(), "{e}"),
        }
    }
}
