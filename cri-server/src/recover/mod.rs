//! Brings back what an earlier daemon left.
//!
//! [`run`] reads every record, finds the shims again, and gives each pod its task. What a daemon
//! was about to make when it died is undone; a record that cannot be read is put aside; and what
//! no record names is found by looking ([`sweep`]) and removed. Clients that ask about pods wait
//! until all are back; the rest of the service answers meanwhile.
//!
//! What must hold: recovery never removes what belongs to a pod that a client was told of, unless
//! its record cannot be read; and it may itself be killed at any instruction.

mod containers;
mod pods;
mod sweep;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;

use crate::container::record::ContainerRecord;
use crate::daemon::Daemon;
use crate::id::Id;
use crate::layout::{CONTAINER_RECORD, POD_RECORD};
use crate::pod::record::PodRecord;
use crate::record::RecordError;
use crate::telemetry::chain;

/// Pods brought back at the same time: enough to hide the answers of their shims.
const AT_ONCE: usize = 16;

/// What is on disk, as far as it can be read.
#[derive(Default)]
struct Records {
    pods: Vec<PodRecord>,
    containers: BTreeMap<Id, Vec<ContainerRecord>>,
}

/// Brings every pod back, lets clients ask for them, and then removes what belongs to none.
pub async fn run(daemon: &Arc<Daemon>, images: &skiff_image::Store) {
    let mut records = load(daemon);
    let containers = records.containers.values().flatten();
    let holds = containers.filter_map(|record| {
        let image = record.image_id.parse().ok()?;
        Some((record.id.to_string(), image))
    });
    images.restore_holds(holds.collect::<Vec<_>>());
    let pods = records.pods.into_iter().map(|pod| {
        let own = records.containers.remove(&pod.id).unwrap_or_default();
        pods::bring_back(daemon, pod, own)
    });
    let pods: Vec<_> = pods.collect();
    stream::iter(pods)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    let mut orphans = sweep::look(daemon, images);
    // What is left belongs to pods that are not there.
    orphans
        .containers
        .extend(records.containers.into_values().flatten());
    daemon.recovered.send_replace(true);
    orphans.remove(daemon, images).await;
}

fn load(daemon: &Daemon) -> Records {
    let mut records = Records::default();
    for dir in entries(&daemon.layout.pods()) {
        match PodRecord::read(&dir) {
            Ok(record) => records.pods.push(record),
            Err(error) => put_aside(daemon, &dir, POD_RECORD, &error),
        }
    }
    for dir in entries(&daemon.layout.containers()) {
        match ContainerRecord::read(&dir) {
            Ok(record) => records
                .containers
                .entry(record.pod.clone())
                .or_default()
                .push(record),
            Err(error) => put_aside(daemon, &dir, CONTAINER_RECORD, &error),
        }
    }
    records
}

/// A directory without a record is what is left of one that was being removed, or not yet made.
/// One with a record that cannot be read is kept for somebody to look at.
fn put_aside(daemon: &Daemon, dir: &Path, record: &str, error: &RecordError) {
    if error.is_missing() {
        let _ = std::fs::remove_dir_all(dir);
        return;
    }
    let name = dir.file_name().unwrap_or_default();
    let aside = daemon.layout.quarantine().join(name);
    tracing::error!(
        error = chain(error),
        moved_to = %aside.display(),
        "a record cannot be read; what it names is being removed"
    );
    let _ = std::fs::remove_dir_all(&aside);
    if let Err(error) = std::fs::rename(dir, &aside) {
        let path = dir.join(record);
        tracing::error!(path = %path.display(), %error, "the record cannot be moved");
    }
}

fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) => {
            tracing::error!(path = %dir.display(), %error, "records cannot be listed");
            Vec::new()
        }
    }
}
