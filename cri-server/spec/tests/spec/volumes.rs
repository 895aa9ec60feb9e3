//! Image volumes, options of volumes, what CDI devices change.

use oci_spec::runtime::{Hook, Hooks, LinuxDeviceType, Mount as OciMount, Spec};
use serde_json::json;
use skiff_cri::v1::{ImageSpec, Mount, MountPropagation};
use skiff_spec::{Injection, RequestedDevice, check_destination};

use crate::case::{Case, device};

fn image_volume(path: &str) -> Mount {
    Mount {
        container_path: path.into(),
        readonly: true,
        image: Some(ImageSpec {
            image: "sha256:abc".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn at<'a>(spec: &'a Spec, path: &str) -> &'a OciMount {
    let mounts = spec.mounts().as_deref().unwrap();
    let mut found = mounts
        .iter()
        .filter(|m| m.destination().as_os_str() == path);
    let mount = found.next().unwrap();
    assert!(found.next().is_none(), "two mounts at {path}");
    mount
}

#[test]
fn an_image_volume_is_read_only_and_holds_no_programs() {
    let mut case = Case::plain();
    case.config.mounts = vec![image_volume("/models/")];
    let spec = case.spec();
    let mount = at(&spec, "/models");
    assert_eq!(mount.typ().as_deref(), Some("image"));
    let options = mount.options().as_deref().unwrap();
    assert_eq!(options, ["ro", "noexec", "nosuid", "nodev"]);
}

#[test]
fn an_image_volume_that_cannot_be_is_refused_by_field() {
    let refused = |change: fn(&mut Mount), field: &str| {
        let mut case = Case::plain();
        case.config.mounts = vec![image_volume("/models")];
        change(&mut case.config.mounts[0]);
        assert_eq!(case.refused(), format!("mounts[0].{field}"));
    };
    refused(|m| m.readonly = false, "readonly");
    refused(|m| m.host_path = "/x".into(), "host_path");
    refused(
        |m| m.set_propagation(MountPropagation::PropagationBidirectional),
        "propagation",
    );
    refused(|m| m.mount_options = vec!["sync".into()], "mount_options");
    refused(|m| m.image_sub_path = "a/../../b".into(), "image_sub_path");
    refused(
        |m| {
            m.image = None;
            m.image_sub_path = "a".into();
        },
        "image_sub_path",
    );
    let mut case = Case::plain();
    case.config.mounts = vec![image_volume("/models"), image_volume("/models/")];
    assert_eq!(case.refused(), "mounts[1].container_path");
}

#[test]
fn options_of_a_volume_hold_below_it_too() {
    let mut case = Case::plain();
    case.config.mounts = vec![Mount {
        container_path: "/data".into(),
        host_path: "/srv/data".into(),
        mount_options: ["noexec", "nodev", "nosuid"].map(str::to_owned).into(),
        ..Default::default()
    }];
    let spec = case.spec();
    let options = at(&spec, "/data").options().as_deref().unwrap();
    assert_eq!(options[3..], ["rnoexec", "rnodev", "rnosuid"]);
    case.config.mounts[0].mount_options = vec!["ro".into()];
    assert_eq!(case.refused(), "mounts[0].mount_options");
}

/// CVE-2019-16884: what protects a container is written below /proc.
#[test]
fn no_volume_takes_the_place_of_proc() {
    for path in ["/proc", "/proc/", "//proc"] {
        let mut case = Case::plain();
        case.config.mounts = vec![Mount {
            container_path: path.into(),
            host_path: "/srv/proc".into(),
            ..Default::default()
        }];
        assert_eq!(case.refused(), "mounts[0].container_path", "{path}");
    }
}

fn injected(cdi: Injection) -> Spec {
    let mut case = Case::plain();
    case.devices.cdi = cdi;
    case.spec()
}

#[test]
fn nothing_injected_changes_nothing() {
    assert_eq!(injected(Injection::default()), Case::plain().spec());
}

#[test]
fn an_injected_variable_replaces_the_images_and_groups_come_once() {
    let spec = injected(Injection {
        env: vec!["LANG=vendor".into(), "NEW=1".into()],
        additional_gids: vec![44, 0, 44],
        ..Default::default()
    });
    let process = spec.process().as_ref().unwrap();
    let env = process.env().as_deref().unwrap();
    assert_eq!(env.iter().filter(|e| e.starts_with("LANG=")).count(), 1);
    assert!(env.contains(&"LANG=vendor".into()) && env.contains(&"NEW=1".into()));
    let groups = process.user().additional_gids().as_deref().unwrap();
    assert_eq!(groups.iter().filter(|gid| **gid == 44).count(), 1);
}

#[test]
fn an_injected_device_is_made_and_allowed_as_far_as_it_says() {
    let node = |path: &str, permissions: &str| RequestedDevice {
        container_path: path.into(),
        permissions: permissions.into(),
        node: device("/dev/vendor0", LinuxDeviceType::C, 511, 0),
    };
    let spec = injected(Injection {
        devices: vec![node("/dev/a", "r"), node("/dev/b", "")],
        ..Default::default()
    });
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.devices().as_ref().unwrap().len(), 2);
    let rules = linux.resources().as_ref().unwrap().devices();
    let rules = rules.as_deref().unwrap();
    assert_eq!(rules.len(), 2, "{rules:?}");
    assert_eq!(rules[1].access().as_deref(), Some("r"));
}

#[test]
fn an_injected_mount_replaces_another_and_hides_none() {
    let mount = |path: &str| -> OciMount {
        let json =
            json!({"destination": path, "type": "bind", "source": "/v", "options": ["rbind"]});
        serde_json::from_value(json).unwrap()
    };
    let mut case = Case::plain();
    for path in ["/opt/data", "/opt/vendor/lib"] {
        case.config.mounts.push(Mount {
            container_path: path.into(),
            host_path: "/srv".into(),
            ..Default::default()
        });
    }
    case.devices.cdi.mounts = vec![mount("/opt/data"), mount("/opt/vendor"), mount("/last")];
    let spec = case.spec();
    assert_eq!(
        at(&spec, "/opt/data").source().as_deref(),
        Some("/v".as_ref())
    );
    let place = |path: &str| {
        let mounts = spec.mounts().as_deref().unwrap();
        let found = mounts
            .iter()
            .position(|m| m.destination().as_os_str() == path);
        found.unwrap()
    };
    assert!(place("/opt/vendor") < place("/opt/vendor/lib"));
    assert!(place("/proc") < place("/last"));
}

#[test]
fn injected_hooks_reach_the_specification_and_destinations_are_checked() {
    let hook: Hook = serde_json::from_value(json!({"path": "/usr/bin/hook"})).unwrap();
    let mut hooks = Hooks::default();
    hooks.set_create_container(Some(vec![hook]));
    let spec = injected(Injection {
        hooks,
        ..Default::default()
    });
    let hooks = spec.hooks().as_ref().unwrap();
    assert_eq!(hooks.create_container().as_ref().unwrap().len(), 1);
    assert!(check_destination("/dev/a".as_ref(), "x").is_ok());
    for bad in ["dev/a", "/a/../b", "/"] {
        assert!(check_destination(bad.as_ref(), "x").is_err(), "{bad}");
    }
}
