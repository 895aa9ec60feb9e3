//! Cgroups as far as the daemon touches them: names, and what a shim left behind.
//!
//! Shims make and remove the cgroups of living containers. Here are those of the dead.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use crate::id::Id;
use crate::layout::CGROUP_PREFIX;

/// Parent of the cgroups of pods whose request names none, below the root of the hierarchy.
pub const OWN: &str = "skiff";
/// How often an emptying cgroup is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long a cgroup may take to become empty after its processes were killed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Parent of a pod's cgroups, relative to the root of the hierarchy: the request's, else our own
/// for this pod. `None` when the request's would lead out of the hierarchy.
pub fn parent(requested: &str, pod: &Id) -> Option<PathBuf> {
    if requested.is_empty() {
        return Some(Path::new(OWN).join(pod.as_str()));
    }
    let mut parent = PathBuf::new();
    for component in Path::new(requested).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => parent.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parent)
}

/// Whether a parent is one that [`parent`] chose, to be removed with the pod.
fn is_own(parent: &Path, pod: &Id) -> bool {
    parent == Path::new(OWN).join(pod.as_str())
}

/// Removes a pod's parent cgroup below `root`, when it is one that [`parent`] chose.
pub fn remove_own(root: &Path, parent: &Path, pod: &Id) {
    if is_own(parent, pod)
        && let Err(error) = remove(&root.join(parent))
    {
        tracing::warn!(%pod, %error, "the pod's cgroup cannot be removed");
    }
}

/// Name of the cgroup of a container, or of a pod's init.
pub fn name(id: &Id) -> String {
    format!("{CGROUP_PREFIX}{id}")
}

/// Kills every process in a cgroup and its descendants and removes them. One that does not exist
/// is fine. `Ok(false)`: the processes do not end.
pub async fn kill(cgroup: &Path) -> io::Result<bool> {
    kill_within(cgroup, PATIENCE).await
}

/// The same, with another patience.
pub async fn kill_within(cgroup: &Path, patience: Duration) -> io::Result<bool> {
    match std::fs::write(cgroup.join("cgroup.kill"), "1") {
        Ok(()) => {}
        Err(e) if is_gone(&e) => return Ok(true),
        Err(e) => return Err(e),
    }
    let give_up = Instant::now() + patience;
    while Instant::now() < give_up {
        match remove(cgroup) {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {}
            Err(e) => return Err(e),
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(false)
}

/// Removes an empty cgroup and the empty ones below it. One that does not exist is fine.
pub fn remove(cgroup: &Path) -> io::Result<()> {
    match std::fs::remove_dir(cgroup) {
        Ok(()) => return Ok(()),
        Err(e) if is_gone(&e) => return Ok(()),
        Err(e) if is_full(&e) => {}
        Err(e) => return Err(e),
    }
    let emptied = remove_below(cgroup).and_then(|()| std::fs::remove_dir(cgroup));
    // Its shim removes it, too, if there is one.
    emptied.or_else(|e| if is_gone(&e) { Ok(()) } else { Err(e) })
}

fn remove_below(cgroup: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// What a cgroup's directory answers that has others in it (or processes), and what any other does.
fn is_full(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::ResourceBusy || kind == io::ErrorKind::DirectoryNotEmpty
}

/// A cgroup's files vanish before its directory does: opening one then says "no such device".
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// Our cgroups below `root` whose name carries an id, wherever a request has put them.
pub fn scan(root: &Path) -> Vec<(PathBuf, Id)> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        // What vanishes meanwhile needs no removing.
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            let id = name
                .to_str()
                .and_then(|name| name.strip_prefix(CGROUP_PREFIX));
            match id.and_then(Id::parse) {
                Some(id) => found.push((entry.path(), id)),
                None => dirs.push(entry.path()),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_stays_in_the_hierarchy() {
        let pod = Id::random().unwrap();
        let own = parent("", &pod).unwrap();
        assert!(is_own(&own, &pod) && own.is_relative());
        for (asked, want) in [
            ("/kubepods/burstable/podx", Some("kubepods/burstable/podx")),
            ("kubepods", Some("kubepods")),
            ("/kubepods.slice/a.slice", Some("kubepods.slice/a.slice")),
            ("/", Some("")),
            ("/a/../../etc", None),
        ] {
            assert_eq!(
                parent(asked, &pod).as_deref(),
                want.map(Path::new),
                "{asked}"
            );
        }
        assert!(!is_own(Path::new("kubepods"), &pod));
    }

    #[test]
    fn a_cgroup_that_vanishes_meanwhile_is_removed() {
        for _ in 0..40 {
            let root = tempfile::tempdir().unwrap();
            let cgroup = root.path().join("skiff-x");
            for below in 0..20 {
                std::fs::create_dir_all(cgroup.join(format!("{below}/a/b"))).unwrap();
            }
            let ready = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                let all = [0; 4].map(|_| {
                    scope.spawn(|| {
                        ready.wait();
                        remove(&cgroup)
                    })
                });
                for one in all {
                    one.join().unwrap().unwrap();
                }
            });
            assert!(!cgroup.exists());
        }
    }

    #[test]
    fn a_scan_finds_ours_at_any_depth_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let id = Id::random().unwrap();
        let ours = root.path().join("kubepods/podx").join(name(&id));
        for dir in [&ours.join("below"), &root.path().join("skiff-but-no-id")] {
            std::fs::create_dir_all(dir).unwrap();
        }
        assert_eq!(scan(root.path()), [(ours, id)]);
    }
}
