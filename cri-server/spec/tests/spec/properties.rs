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
    let good = prop_oneof![Just("ALL"), Just("NET_ADMIN"), Just("cap_chown")];
    let bad = prop_oneof![Just("SYS_TIME"), Just("NONSENSE")];
    let name = prop_oneof![19 => good, 1 => bad];
    prop::collection::vec(name.prop_map(str::to_owned), 0..3)
}

fn mount() -> impl Strategy<Value = Mount> {
    let path = || {
        let good = prop_oneof![
            Just("/dev/shm"),
            Just("/etc/hosts"),
            Just("/a//b/"),
            Just("/a")
        ];
        let bad = prop_oneof![Just("/../etc"), Just("rel"), Just("")];
        prop_oneof![19 => good, 1 => bad].prop_map(str::to_owned)
    };
    let propagation = prop_oneof![19 => 0..3, 1 => -1..4];
    (
        path(),
        path(),
        any::<bool>(),
        prop::bool::weighted(0.1),
        propagation,
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
    let key = prop_oneof![29 => "[AB]{1,2}", 1 => "[=\\x00]?"];
    let value = prop_oneof![29 => "[a=é]{0,3}", 1 => "\\x00"];
    let env = prop::collection::vec((key, value), 0..4);
    let process = (words(), words(), words(), env, any::<bool>());
    let sets = (capability(), capability(), capability());
    let mode = || prop_oneof![19 => Just(0), 1 => -1..5];
    let init = prop::option::weighted(0.9, 1..9);
    let pid = prop_oneof![9 => 0..3, 1 => -1..5];
    let pod_privileged = prop::bool::weighted(0.8);
    let security = (pod_privileged, any::<bool>(), mode(), pid, mode(), init);
    let number = || prop_oneof![9 => Just(0), 9 => 1i64..9, 1 => -2i64..0];
    let resources = (number(), number(), number(), any::<bool>(), any::<bool>());
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
