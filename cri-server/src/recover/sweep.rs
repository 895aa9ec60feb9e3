//! Finds and removes what no record names: left by a record that could not be read, or by a
//! daemon that died after it had removed a record. Of what is the host's only what is ours
//! ([`crate::ownership`]): another daemon may have its own there.
//!
//! [`look`] runs before clients may ask for pods, so nothing it finds can belong to a pod of this
//! daemon that is still being made; removing may then take its time.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::{Recorded, containers, entries};
use crate::cgroup;
use crate::daemon::Daemon;
use crate::id::Id;
use crate::layout::recorded;
use crate::netns;
use crate::ownership::Own;
use crate::shim::connect::connect_client;
use crate::telemetry::chain;

/// What is no pod's and no container's.
pub(super) struct Orphans {
    shims: Vec<PathBuf>,
    /// Records of containers whose pod's record is gone.
    pub(super) containers: Vec<Recorded>,
    cgroups: Vec<PathBuf>,
    netns: Vec<PathBuf>,
    snapshots: Vec<String>,
    /// Exit records without a record, records half written anew, files of pods.
    files: Vec<PathBuf>,
    /// Pods that plugins may hold something for.
    attached: bool,
    /// All pods that are there.
    pods: Vec<String>,
}

/// Compares what there is with what is known.
pub(super) fn look(daemon: &Daemon, own: &Own, images: &skiff_image::Store) -> Orphans {
    let mut known = HashSet::new();
    let mut shims = HashSet::new();
    let mut namespaces = HashSet::new();
    let pods = daemon.store.pods();
    for pod in &pods {
        let view = pod.view();
        known.extend(view.containers.keys().cloned());
        known.insert(pod.id().clone());
        shims.extend(view.shim.iter().map(|shim| daemon.layout.shim(&shim.id)));
        namespaces.insert(daemon.layout.netns(pod.id()));
    }
    let mut orphans = Orphans {
        shims: daemon.earlier_shims.clone(),
        // Unlisted, they are left for the next start.
        netns: entries(&daemon.layout.netns).unwrap_or_default(),
        containers: Vec::new(),
        cgroups: Vec::new(),
        snapshots: images.snapshots().list().unwrap_or_default(),
        files: files(daemon, &known),
        attached: false,
        pods: pods.iter().map(|pod| pod.id().to_string()).collect(),
    };
    orphans.shims.retain(|path| !shims.contains(path));
    orphans
        .netns
        .retain(|path| own.has_netns(path) && !namespaces.contains(path));
    orphans.snapshots.retain(|id| !known.contains(id.as_str()));
    let cgroups = cgroup::scan(&daemon.cgroup_root).into_iter();
    orphans.cgroups.extend(
        cgroups
            .filter(|(_, id)| own.has(id) && !known.contains(id))
            .map(|(path, _)| path),
    );
    let attached = daemon.cni.cached().unwrap_or_default();
    orphans.attached = attached.iter().any(|id| !known.contains(id.as_str()));
    orphans
}

fn files(daemon: &Daemon, known: &HashSet<Id>) -> Vec<PathBuf> {
    let layout = &daemon.layout;
    let exits: HashSet<PathBuf> = known.iter().map(|id| layout.container_exit(id)).collect();
    let pods: HashSet<PathBuf> = known.iter().map(|id| layout.pod_files(id)).collect();
    let in_dir = |dir: PathBuf| entries(&dir).unwrap_or_default().into_iter();
    let beside_records = in_dir(layout.containers())
        .chain(in_dir(layout.pods()))
        .filter(|path| recorded(path).is_none() && !exits.contains(path));
    let of_pods = in_dir(layout.all_pod_files()).filter(|path| !pods.contains(path));
    beside_records.chain(of_pods).collect()
}

impl Orphans {
    /// Removes them all; what cannot be removed is logged and left for the next start.
    pub(super) async fn remove(self, daemon: &Daemon, images: &skiff_image::Store) {
        for dir in self.shims {
            end_shim(&dir).await;
        }
        // After their shim, which writes to their directories when it ends them.
        for (_, record) in self.containers {
            containers::remove(daemon, &record).await;
        }
        for path in self.files {
            let removed = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
            if let Err(error) = removed {
                tracing::error!(path = %path.display(), %error, "a left-over stays");
            }
        }
        for path in self.cgroups {
            empty_cgroup(&path).await;
        }
        if self.attached
            && let Err(error) = daemon.cni.gc(&self.pods).await
        {
            tracing::error!(
                error = chain(&error),
                "networks of pods that are gone stay attached"
            );
        }
        for path in self.netns {
            tracing::warn!(path = %path.display(), "removing a network namespace of no pod");
            if let Err(error) = netns::remove(&path) {
                tracing::error!(path = %path.display(), %error, "it stays");
            }
        }
        for id in self.snapshots {
            if let Err(error) = images.snapshots().remove(&id) {
                tracing::error!(
                    snapshot = id,
                    error = chain(&error),
                    "a snapshot of nobody stays"
                );
            }
        }
    }
}

/// Ends a shim of an earlier daemon. A spare has ended by itself; its directory may be left.
async fn end_shim(dir: &Path) {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    if let Ok((client, _events)) = connect_client(&name, dir)
        && client.shutdown().await.is_ok()
    {
        tracing::warn!(shim = %name, "ended a shim of no pod");
    }
    let _ = std::fs::remove_dir_all(dir);
}

async fn empty_cgroup(path: &Path) {
    tracing::warn!(cgroup = %path.display(), "emptying a cgroup of no container");
    match cgroup::kill(path).await {
        Ok(true) => {}
        Ok(false) => tracing::error!(cgroup = %path.display(), "its processes do not end"),
        Err(error) => tracing::error!(cgroup = %path.display(), %error, "it stays"),
    }
    // Its parent may be one that we made for a pod, of whose containers this was the last.
    if let Some(parent) = path.parent()
        && parent
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(Id::parse)
            .is_some()
    {
        let _ = std::fs::remove_dir(parent);
    }
}
