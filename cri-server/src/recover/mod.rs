//! Brings back what an earlier daemon left.
//!
//! [`run`] reads every record, finds the shims again, and gives each pod its task. A pod that a
//! daemon was about to make when it died is removed by its own task; a record that cannot be read is put aside; and what
//! no record names is found by looking ([`sweep`]) and removed; then the plugins are asked whether
//! networks are as they were ([`networks`]). Clients that ask about pods wait
//! until all are back; the rest of the service answers meanwhile.
//!
//! What must hold: recovery never removes what belongs to a pod that a client was told of, unless
//! its record cannot be read; and it may itself be killed at any instruction.

mod containers;
mod networks;
mod pods;
mod sweep;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use skiff_cri::v1::PodSandboxConfig;

use crate::container::image_volumes::holder;
use crate::container::record::{ContainerBirth, ContainerRecord};
use crate::daemon::Daemon;
use crate::id::Id;
use crate::layout::recorded;
use crate::ownership::Own;
use crate::pod::State;
use crate::pod::record::PodRecord;
use crate::record::{self, RecordError};
use crate::telemetry::chain;

/// Pods brought back at the same time: enough to hide the answers of their shims.
const AT_ONCE: usize = 16;

/// A container's record and what it came from.
type Recorded = (ContainerBirth, ContainerRecord);

/// What is on disk, as far as it can be read.
#[derive(Default)]
struct Records {
    pods: Vec<(PodSandboxConfig, PodRecord)>,
    containers: BTreeMap<Id, Vec<Recorded>>,
}

/// Brings every pod back, lets clients ask for them, and then removes what belongs to none. Fails,
/// having touched nothing, when it cannot be known which pods there are.
pub async fn run(daemon: &Arc<Daemon>, images: &skiff_image::Store) -> Result<(), RecordError> {
    let own = Own::of(&daemon.layout).map_err(|(source, path)| RecordError::Io {
        action: "list",
        path,
        source,
    })?;
    let mut records = load(daemon)?;
    let containers = records.containers.values().flatten();
    let holds = containers.flat_map(|(_, record)| {
        let volumes = record.image_volumes.values().enumerate();
        let volumes = volumes.map(|(number, image)| (holder(&record.id, number), image));
        let own = (record.id.to_string(), &record.image_id);
        let parsed = |(holder, image): (String, &String)| Some((holder, image.parse().ok()?));
        volumes.chain([own]).filter_map(parsed)
    });
    images.restore_holds(holds.collect::<Vec<_>>());
    // Of two pods with one name the better one gets it: one that is of use, or else the newer.
    let usable = |pod: &PodRecord| {
        let ready = pod.state == State::Ready && pod.boot_id == daemon.boot_id;
        ready && pod.shim.process.is_alive()
    };
    let rank = |pod: &PodRecord| (usable(pod), pod.created_at);
    records.pods.sort_by_key(|(_, pod)| Reverse(rank(pod)));
    let pods = records.pods.into_iter().map(|(config, pod)| {
        let containers = records.containers.remove(&pod.id).unwrap_or_default();
        let place = pods::Place::take(daemon, config, &pod);
        pods::bring_back(daemon, place, pod, containers)
    });
    let pods: Vec<_> = pods.collect();
    stream::iter(pods)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    let mut orphans = sweep::look(daemon, &own, images);
    // What is left belongs to pods that are not there.
    orphans
        .containers
        .extend(records.containers.into_values().flatten());
    daemon.recovered.send_replace(true);
    orphans.remove(daemon, images).await;
    tokio::spawn(networks::check(Arc::clone(daemon)));
    Ok(())
}

fn load(daemon: &Daemon) -> Result<Records, RecordError> {
    let mut records = Records::default();
    for path in named_records(&daemon.layout.pods())? {
        match PodRecord::read(&path) {
            Ok(record) => records.pods.push(record),
            Err(error) => put_aside(daemon, &path, error)?,
        }
    }
    for path in named_records(&daemon.layout.containers())? {
        match ContainerRecord::read(&path) {
            Ok(record) => records
                .containers
                .entry(record.1.pod.clone())
                .or_default()
                .push(record),
            Err(error) => put_aside(daemon, &path, error)?,
        }
    }
    Ok(records)
}

/// A record that is none is kept for somebody to look at. A record that could not be read now,
/// or only by a newer daemon, may be that of a running pod: the error is returned.
fn put_aside(daemon: &Daemon, path: &Path, error: RecordError) -> Result<(), RecordError> {
    match &error {
        RecordError::Malformed { .. } | RecordError::Misplaced { .. } => {}
        RecordError::Io { .. } | RecordError::Newer { .. } => return Err(error),
    }
    // One that a daemon was about to make when it died. What it would name was not made yet.
    if std::fs::metadata(path).is_ok_and(|file| file.len() == 0) {
        return record::remove(path);
    }
    let name = path.file_name().unwrap_or_default();
    let aside = daemon.layout.quarantine().join(name);
    tracing::error!(
        error = chain(&error),
        moved_to = %aside.display(),
        "a record cannot be read; what it names is being removed"
    );
    if let Err(error) = std::fs::rename(path, &aside) {
        tracing::error!(path = %path.display(), %error, "the record cannot be moved");
    }
    Ok(())
}

fn named_records(dir: &Path) -> Result<impl Iterator<Item = PathBuf>, RecordError> {
    let named = |path: &PathBuf| recorded(path).is_some();
    Ok(entries(dir)?.into_iter().filter(named))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let listed =
        std::fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    listed.map_err(|source| RecordError::Io {
        action: "list",
        path: dir.into(),
        source,
    })
}
