//! Whole specifications, compared with files. After a change that is meant:
//!
//! ```text
//! SKIFF_REGENERATE=1 cargo test -p skiff-spec --test spec
//! ```

use std::path::{Path, PathBuf};

use crate::case::{Case, device, pid, text_map};
use oci_spec::runtime::LinuxDeviceType;
use serde_json::Value;
use skiff_cri::v1::{
    Capability, Device, HugepageLimit, KeyValue, Mount, MountPropagation, NamespaceMode,
    NamespaceOption,
};
use skiff_spec::{PodNetwork, RequestedDevice, User, exec_process};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
        .with_extension("json")
}

/// Sets have no order; files need one.
fn sort_sets(value: &mut Value) {
    let mut sort = |path: &str| {
        for set in [
            "bounding",
            "effective",
            "permitted",
            "inheritable",
            "ambient",
        ] {
            if let Some(Value::Array(list)) = value.pointer_mut(&format!("{path}/{set}")) {
                list.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            }
        }
    };
    sort("/process/capabilities");
    sort("/capabilities");
}

fn check(name: &str, value: impl serde::Serialize) {
    let mut value = serde_json::to_value(value).unwrap();
    sort_sets(&mut value);
    let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
    let path = golden(name);
    if std::env::var_os("SKIFF_REGENERATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{} differs; the specification is now\n{text}",
        path.display()
    );
}

#[test]
fn plain() {
    check("plain", Case::plain().spec());
}

#[test]
fn privileged() {
    let mut case = Case::plain();
    case.security().privileged = true;
    case.pod_security().privileged = true;
    case.devices.host = vec![
        device("/dev/kvm", LinuxDeviceType::C, 10, 232),
        device("/dev/sda", LinuxDeviceType::B, 8, 0),
    ];
    check("privileged", case.spec());
}

#[test]
fn host_network() {
    let mut case = Case::plain();
    let options = NamespaceOption {
        network: NamespaceMode::Node as i32,
        ipc: NamespaceMode::Node as i32,
        pid: NamespaceMode::Node as i32,
        ..Default::default()
    };
    case.security().namespace_options = Some(options.clone());
    case.pod_security().namespace_options = Some(options);
    case.pod.network = PodNetwork::Host;
    case.pod.host_ipc = true;
    case.pod.hostname = "node-1".into();
    case.pod.hostname_path = None;
    check("host_network", case.spec());
}

#[test]
fn shared_pid() {
    let mut case = Case::plain();
    case.pod_security().namespace_options = Some(pid(NamespaceMode::Pod));
    case.pod.init_pid = Some(4400);
    check("shared_pid", case.spec());
}

#[test]
fn tty() {
    let mut case = Case::plain();
    case.config.tty = true;
    case.config.stdin = true;
    case.config.command = vec!["/bin/sh".into()];
    case.user = User {
        uid: 1000,
        gid: 100,
        groups: vec![100, 2000],
        home: None,
    };
    case.config.envs = vec![
        KeyValue {
            key: "LANG".into(),
            value: b"de_DE.UTF-8".to_vec(),
        },
        KeyValue {
            key: "HOME".into(),
            value: b"/home/web".to_vec(),
        },
    ];
    check("tty", case.spec());
}

#[test]
fn readonly_rootfs() {
    let mut case = Case::plain();
    case.security().readonly_rootfs = true;
    case.security().no_new_privs = true;
    case.security().masked_paths = vec!["/proc/kcore".into()];
    case.security().readonly_paths = vec!["/proc/sys".into()];
    check("readonly_rootfs", case.spec());
}

#[test]
fn capabilities() {
    let mut case = Case::plain();
    case.security().capabilities = Some(Capability {
        add_capabilities: vec!["NET_ADMIN".into(), "cap_sys_ptrace".into()],
        drop_capabilities: vec!["ALL".into()],
        add_ambient_capabilities: vec!["NET_BIND_SERVICE".into()],
    });
    check("capabilities", case.spec());
}

#[test]
fn mounts() {
    let mount = |container: &str, host: &str, propagation: MountPropagation| Mount {
        container_path: container.into(),
        host_path: host.into(),
        propagation: propagation as i32,
        ..Default::default()
    };
    let private = MountPropagation::PropagationPrivate;
    let mut case = Case::plain();
    case.config.mounts = vec![
        mount(
            "/data/deep/er",
            "/v/1",
            MountPropagation::PropagationHostToContainer,
        ),
        Mount {
            readonly: true,
            ..mount("/data", "/v/2", private)
        },
        mount("/csi", "/v/3", MountPropagation::PropagationBidirectional),
        Mount {
            readonly: true,
            recursive_read_only: true,
            ..mount("/rro", "/v/4", private)
        },
        mount("/dev/shm/", "/v/shm", private),
        mount("/etc/hosts", "/v/hosts", private),
        mount("/sys", "/sys", private),
        Mount {
            mount_options: vec!["noexec".into()],
            ..mount("/data/deep", "/v/5", private)
        },
    ];
    check("mounts", case.spec());
}

#[test]
fn resources() {
    let mut case = Case::plain();
    let request = case.resources();
    request.cpu_period = 100_000;
    request.cpu_quota = 50_000;
    request.cpu_shares = 512;
    request.memory_limit_in_bytes = 64 << 20;
    request.memory_swap_limit_in_bytes = 80 << 20;
    request.oom_score_adj = 982;
    request.cpuset_cpus = "0-1".into();
    request.hugepage_limits = vec![HugepageLimit {
        page_size: "2MB".into(),
        limit: 4 << 20,
    }];
    request.unified = text_map(&[("memory.min", "1048576"), ("cpu.weight", "39")]);
    check("resources", case.spec());
}

#[test]
fn devices() {
    let mut case = Case::plain();
    case.config.devices = vec![Device {
        container_path: "/dev/disk".into(),
        host_path: "/dev/sda".into(),
        permissions: "rw".into(),
    }];
    case.devices.requested = vec![RequestedDevice {
        container_path: "/dev/disk".into(),
        permissions: "rw".into(),
        node: device("/dev/sda", LinuxDeviceType::B, 8, 0),
    }];
    check("devices", case.spec());
}

#[test]
fn exec() {
    let mut case = Case::plain();
    case.user = User {
        uid: 7,
        gid: 8,
        groups: vec![8, 9],
        home: None,
    };
    let command = ["cat".to_owned(), "/proc/1/status".to_owned()];
    check("exec", exec_process(&case.spec(), &command, true).unwrap());
}
