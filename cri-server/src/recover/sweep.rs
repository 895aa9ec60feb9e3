//! Finds and removes what no record names: left by a record that could not be read, or by a
//! daemon that died between removing a record and noticing that something was in the way.
//!
//! Runs beside clients' requests, so everything is looked at twice: what is found before the
//! names of living pods are taken cannot belong to a pod made later.

use std::path::PathBuf;

use super::{Known, entries, known};
use crate::cgroup;
use crate::daemon::Daemon;
use crate::id::Id;
use crate::layout::NETNS_PREFIX;
use crate::netns;
use crate::shim::connect::connect_client;
use crate::telemetry::chain;

/// Everything that could be ours.
struct Found {
    shims: Vec<PathBuf>,
    netns: Vec<PathBuf>,
    cgroups: Vec<(PathBuf, Id)>,
    snapshots: Vec<String>,
}

pub(super) async fn run(daemon: &Daemon, images: &skiff_image::Store) {
    let found = Found {
        shims: daemon.earlier_shims.clone(),
        netns: entries(&daemon.layout.netns),
        cgroups: cgroup::scan(&daemon.cgroup_root),
        snapshots: images.snapshots().list().unwrap_or_default(),
    };
    let known = known(daemon);
    shims(daemon, found.shims).await;
    cgroups(&known, found.cgroups).await;
    networks(daemon, &known).await;
    namespaces(daemon, found.netns);
    for id in found.snapshots.iter().filter(|id| !known.containers.contains(*id)) {
        if let Err(error) = images.snapshots().remove(id) {
            tracing::error!(snapshot = id, error = chain(&error), "a snapshot of nobody stays");
        }
    }
}

/// Ends the shims of an earlier daemon that are no pod's. A spare ends by itself when its daemon
/// does; its directory may be left.
async fn shims(daemon: &Daemon, found: Vec<PathBuf>) {
    for dir in found {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let own = daemon.store.pods().iter().any(|pod| {
            pod.view().shim.as_ref().is_some_and(|shim| shim.client.shim() == name)
        });
        if own {
            continue;
        }
        if let Ok((client, _events)) = connect_client(&name, &dir) {
            tracing::warn!(shim = name, "ending a shim that is no pod's");
            let _ = client.shutdown().await;
        }
        let _ = std::fs::remove_dir_all(&dir);
    }
}

async fn cgroups(known: &Known, found: Vec<(PathBuf, Id)>) {
    for (path, id) in found {
        if known.containers.contains(id.as_str()) || known.pods.contains(id.as_str()) {
            continue;
        }
        tracing::warn!(cgroup = %path.display(), "emptying a cgroup that is no container's");
        match cgroup::kill(&path).await {
            Ok(true) => {}
            Ok(false) => tracing::error!(cgroup = %path.display(), "its processes do not end"),
            Err(error) => tracing::error!(cgroup = %path.display(), %error, "it stays"),
        }
        // Its parent may be one that we made for a pod.
        if let Some(parent) = path.parent()
            && parent.file_name().and_then(|name| name.to_str()).and_then(Id::parse).is_some()
        {
            let _ = cgroup::remove(parent);
        }
    }
}

async fn networks(daemon: &Daemon, known: &Known) {
    let valid: Vec<String> = known.pods.iter().cloned().collect();
    let attached = daemon.cni.cached().unwrap_or_default();
    if attached.iter().all(|id| known.pods.contains(id)) {
        return;
    }
    if let Err(error) = daemon.cni.gc(&valid).await {
        tracing::error!(error = chain(&error), "networks of pods that are gone stay attached");
    }
}

fn namespaces(daemon: &Daemon, found: Vec<PathBuf>) {
    let pods = daemon.store.pods();
    for path in found {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = name.starts_with(NETNS_PREFIX);
        let known = pods.iter().any(|pod| daemon.layout.netns(pod.id()) == path);
        if !ours || known {
            continue;
        }
        tracing::warn!(path = %path.display(), "removing a network namespace that is no pod's");
        if let Err(error) = netns::remove(&path) {
            tracing::error!(path = %path.display(), %error, "it stays");
        }
    }
}
