//! Resources and devices.

use oci_spec::runtime::LinuxDeviceType;
use skiff_cri::v1::HugepageLimit;
use skiff_spec::RequestedDevice;

use crate::case::{Case, device, text_map};

#[test]
fn bad_resources_are_refused() {
    type Change = fn(&mut Case);
    for (name, change) in [
        ("cpu_shares", (|c| c.resources().cpu_shares = -1) as Change),
        ("cpu_period", |c| c.resources().cpu_period = -1),
        ("cpu_quota", |c| c.resources().cpu_quota = -2),
        ("cpuset_cpus", |c| c.resources().cpuset_cpus = "0;1".into()),
        ("memory_limit_in_bytes", |c| {
            c.resources().memory_limit_in_bytes = -2
        }),
        ("memory_swap_limit_in_bytes", |c| {
            c.resources().memory_swap_limit_in_bytes = 1
        }),
        ("oom_score_adj", |c| c.resources().oom_score_adj = 1001),
        ("unified", |c| {
            c.resources().unified = text_map(&[("../x.y", "1")])
        }),
        ("unified", |c| {
            c.resources().unified = text_map(&[("memory", "1")])
        }),
        ("hugepage_limits[0]", |c| {
            c.resources().hugepage_limits = vec![HugepageLimit {
                page_size: "2".into(),
                limit: 1,
            }];
        }),
        ("hugepage_limits[0]", |c| {
            c.host.hugetlb = false;
            c.resources().hugepage_limits = vec![HugepageLimit {
                page_size: "2MB".into(),
                limit: 1,
            }];
        }),
        ("unified[\"memory.swap.max\"]", |c| {
            c.host.swap_accounting = false;
            c.resources().unified = text_map(&[("memory.swap.max", "1")]);
        }),
        ("memory_swap_limit_in_bytes", |c| {
            c.host.swap_accounting = false;
            c.resources().memory_limit_in_bytes = 100;
            c.resources().memory_swap_limit_in_bytes = 150;
        }),
    ] {
        let mut case = Case::plain();
        change(&mut case);
        assert_eq!(case.refused(), format!("linux.resources.{name}"));
    }
}

fn swap(memory: i64, both: i64, unified: &[(&str, &str)]) -> Option<String> {
    let mut case = Case::plain();
    case.resources().memory_limit_in_bytes = memory;
    case.resources().memory_swap_limit_in_bytes = both;
    case.resources().unified = text_map(unified);
    let resources = case
        .spec()
        .linux()
        .clone()
        .unwrap()
        .resources()
        .clone()
        .unwrap();
    assert_eq!(resources.memory().and_then(|memory| memory.swap()), None);
    resources
        .unified()
        .clone()
        .unwrap_or_default()
        .get("memory.swap.max")
        .cloned()
}

#[test]
fn swap_is_given_only_when_asked_for() {
    assert_eq!(swap(0, 0, &[]).as_deref(), Some("0"));
    assert_eq!(swap(100, 0, &[]).as_deref(), Some("0"));
    assert_eq!(swap(100, 150, &[]).as_deref(), Some("50"));
    assert_eq!(swap(100, -1, &[]).as_deref(), Some("max"));
    assert_eq!(
        swap(100, 150, &[("memory.swap.max", "7")]).as_deref(),
        Some("7")
    );
}

#[test]
fn unified_keys_replace_typed_fields() {
    let mut case = Case::plain();
    let request = case.resources();
    request.memory_limit_in_bytes = 100;
    request.cpu_shares = 2;
    request.cpu_quota = 5000;
    request.cpuset_cpus = "0".into();
    request.unified = text_map(&[
        ("memory.max", "200"),
        ("cpu.weight", "3"),
        ("cpu.max", "max"),
        ("cpuset.cpus", "1"),
    ]);
    let resources = case
        .spec()
        .linux()
        .clone()
        .unwrap()
        .resources()
        .clone()
        .unwrap();
    assert!(resources.memory().is_none());
    assert!(resources.cpu().is_none());
}

#[test]
fn hosts_without_hugetlb_or_swap_accounting_run_plain_pods() {
    let mut case = Case::plain();
    case.host.hugetlb = false;
    case.host.swap_accounting = false;
    case.resources().memory_limit_in_bytes = 100;
    case.resources().memory_swap_limit_in_bytes = 100;
    case.resources().unified = text_map(&[("memory.swap.max", "0")]);
    case.resources().hugepage_limits = vec![HugepageLimit {
        page_size: "2MB".into(),
        limit: 0,
    }];
    let resources = case
        .spec()
        .linux()
        .clone()
        .unwrap()
        .resources()
        .clone()
        .unwrap();
    assert!(resources.hugepage_limits().is_none());
    assert!(resources.unified().is_none());
}

#[test]
fn bad_devices_are_refused() {
    let node = device("/dev/sda", LinuxDeviceType::B, 8, 0);
    for (path, permissions, field) in [
        ("disk", "rw", "devices[0].container_path"),
        ("/dev/disk", "", "devices[0].permissions"),
        ("/dev/disk", "rx", "devices[0].permissions"),
    ] {
        let mut case = Case::plain();
        case.devices.requested = vec![RequestedDevice {
            container_path: path.into(),
            permissions: permissions.into(),
            node: node.clone(),
        }];
        assert_eq!(case.refused(), field);
    }
}

#[test]
fn a_requested_device_goes_before_the_hosts_at_that_path() {
    let mut case = Case::plain();
    case.pod_security().privileged = true;
    case.security().privileged = true;
    case.devices.host = vec![device("/dev/x", LinuxDeviceType::C, 1, 1)];
    case.devices.requested = vec![RequestedDevice {
        container_path: "/dev/x".into(),
        permissions: "r".into(),
        node: device("/dev/y", LinuxDeviceType::C, 2, 2),
    }];
    let devices = case
        .spec()
        .linux()
        .clone()
        .unwrap()
        .devices()
        .clone()
        .unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].major(), 2);
}
