//! The verbose part of Status: what an operator looks at when a node does not do as it should.
//!
//! Every value is a JSON object, but for `lastCNILoadStatus`, which tools expect to be a plain
//! text. The configuration holds paths of keys and credentials, never those themselves.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use skiff_spec::{AppArmor, SeLinux};

use crate::cgroup_driver::Driver;
use crate::daemon::Daemon;

/// By the names that tools know.
pub(super) fn info(daemon: &Daemon) -> BTreeMap<String, String> {
    let network = daemon.cni.status();
    let load = if network.ready {
        "OK"
    } else {
        &network.message
    };
    BTreeMap::from([
        ("runtime".into(), runtime(daemon).to_string()),
        ("config".into(), config(daemon).to_string()),
        ("cniconfig".into(), cni(daemon).to_string()),
        ("lastCNILoadStatus".into(), load.to_owned()),
        ("cdi".into(), cdi(daemon).to_string()),
    ])
}

/// What runs, on what.
fn runtime(daemon: &Daemon) -> Value {
    let pods = daemon.store.pods();
    let containers: usize = pods.iter().map(|pod| pod.view().containers.len()).sum();
    let features = &daemon.features;
    let uname = rustix::system::uname();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "kernel": uname.release().to_string_lossy(),
        "cgroupRoot": daemon.cgroup_root,
        "cgroupDriver": match daemon.cgroup_driver {
            Driver::Cgroupfs => "cgroupfs",
            Driver::Systemd(_) => "systemd",
        },
        "pods": pods.len(),
        "containers": containers,
        "features": {
            "appArmor": match &features.apparmor {
                AppArmor::Ready => "ready",
                AppArmor::Disabled => "disabled",
                AppArmor::NoDefault(reason) => reason,
            },
            "hugetlb": features.hugetlb,
            "recursiveReadOnlyMounts": features.recursive_read_only,
            "seccomp": features.seccomp,
            "selinux": match &features.selinux {
                SeLinux::Ready(_) => "ready",
                SeLinux::Disabled => "disabled",
                SeLinux::Unusable(reason) => reason,
            },
            "swap": features.swap_accounting,
            "userNamespaces": match &features.user_namespaces {
                Ok(()) => "ready",
                Err(reason) => reason,
            },
        },
    })
}

fn config(daemon: &Daemon) -> Value {
    serde_json::to_value(&**daemon.config.load()).unwrap_or_default()
}

fn cni(daemon: &Daemon) -> Value {
    let network = daemon.cni.status();
    let skipped = network
        .skipped
        .iter()
        .map(|(path, why)| json!({"file": path, "reason": why}));
    let config = daemon.config.load();
    let config = &config.network;
    json!({
        "network": network.network,
        "file": network.file,
        "skipped": skipped.collect::<Vec<_>>(),
        "confDir": config.conf_dir,
        "binDirs": config.bin_dirs,
    })
}

fn cdi(daemon: &Daemon) -> Value {
    let cdi = daemon.cdi.load().overview();
    let devices = cdi
        .devices
        .iter()
        .map(|(name, file)| json!({"name": name.to_string(), "file": file}));
    let skipped = cdi
        .problems
        .iter()
        .map(|problem| json!({"file": problem.path, "reason": problem.reason}));
    json!({
        "devices": devices.collect::<Vec<_>>(),
        "skipped": skipped.collect::<Vec<_>>(),
    })
}
