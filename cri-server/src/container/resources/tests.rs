use std::fs;
use std::path::PathBuf;

use super::*;
use crate::events::change::tests::{container, running};

struct Cgroup {
    dir: tempfile::TempDir,
    limits: Limits,
}

impl Cgroup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let cgroup = Self {
            dir,
            limits: Limits::default(),
        };
        cgroup.set("memory.max", 1 << 20);
        cgroup
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("a")
    }

    fn set(&self, file: &str, value: u64) {
        fs::write(self.path().join(file), format!("{value}\n")).unwrap();
    }

    fn facts(&self) -> Arc<Facts> {
        let facts = Facts {
            cgroup: self.path(),
            ..(*container("a", running()).facts).clone()
        };
        Arc::new(facts)
    }

    /// Facts of a container that was asked for when it started, some time ago.
    fn asked(&self) -> Arc<Facts> {
        let facts = self.facts();
        assert_eq!(self.told(&facts), 1 << 20);
        let long_ago = Instant::now().checked_sub(START).unwrap();
        let mut known = self.limits.lock();
        known
            .containers
            .insert(facts.id.clone(), Asked::Since(long_ago));
        facts
    }

    fn told(&self, facts: &Arc<Facts>) -> i64 {
        self.limits.held(facts).memory_limit_in_bytes
    }

    fn knows(&self, facts: &Arc<Facts>) -> bool {
        let look = self.limits.inotify.as_ref();
        matches!(self.limits.look(look.unwrap(), facts), Look::Known(_))
    }
}

#[test]
fn what_was_read_is_known_until_somebody_writes() {
    let cgroup = Cgroup::new();
    let facts = cgroup.asked();
    assert_eq!(cgroup.told(&facts), 1 << 20);
    assert!(cgroup.knows(&facts));
    for power in [21, 22, 23] {
        cgroup.set("memory.max", 1 << power);
        assert!(!cgroup.knows(&facts));
        assert_eq!(cgroup.told(&facts), 1 << power);
        assert!(cgroup.knows(&facts));
    }
}

#[test]
fn the_questions_of_a_start_make_no_watch() {
    let cgroup = Cgroup::new();
    let facts = cgroup.facts();
    for _ in 0..3 {
        assert_eq!(cgroup.told(&facts), 1 << 20);
    }
    assert!(cgroup.limits.lock().ids.is_empty());
}

#[test]
fn what_is_read_while_somebody_writes_is_not_kept() {
    let cgroup = Cgroup::new();
    let facts = cgroup.asked();
    let inotify = cgroup.limits.inotify.as_ref().unwrap();
    let seen = cgroup.limits.watch(inotify, &facts).unwrap();
    let old = read(&facts);
    cgroup.set("memory.max", 1 << 21);
    cgroup.limits.keep(inotify, &facts, seen, &old);
    assert!(!cgroup.knows(&facts));
    assert_eq!(cgroup.told(&facts), 1 << 21);
}

#[test]
fn nothing_is_known_for_long() {
    let cgroup = Cgroup::new();
    let facts = cgroup.asked();
    cgroup.told(&facts);
    assert!(cgroup.knows(&facts));
    if let Some(Asked::Watched(Watched {
        held: Some(held), ..
    })) = cgroup.limits.lock().containers.get_mut(&facts.id)
    {
        held.at = Instant::now().checked_sub(KNOWN).unwrap();
    }
    assert!(!cgroup.knows(&facts));
    cgroup.told(&facts);
    assert!(cgroup.knows(&facts));
}

#[test]
fn files_that_are_no_limits_change_nothing_known() {
    let cgroup = Cgroup::new();
    let facts = cgroup.asked();
    cgroup.told(&facts);
    for file in ["cgroup.procs", "memory.events", "memory.events.local"] {
        cgroup.set(file, 1);
        assert!(cgroup.knows(&facts), "{file}");
    }
    cgroup.set("cpu.weight.nice", 1);
    assert!(!cgroup.knows(&facts));
}

#[test]
fn who_writes_without_end_holds_up_nobody() {
    let cgroup = Cgroup::new();
    let facts = cgroup.asked();
    cgroup.told(&facts);
    for _ in 0..MOST {
        // Two by turns, since two of a kind in a row are told as one.
        cgroup.set("memory.events", 1);
        cgroup.set("cgroup.procs", 1);
    }
    assert!(!cgroup.knows(&facts), "there is more to hear than is heard");
    while !cgroup.knows(&facts) {
        cgroup.told(&facts);
    }
}

#[test]
fn other_limits_asked_for_are_compared_anew() {
    let cgroup = Cgroup::new();
    let facts = cgroup.asked();
    cgroup.told(&facts);
    assert!(cgroup.knows(&facts));
    let asked = cri::LinuxContainerResources {
        // The kernel rounds it to what the file says.
        memory_limit_in_bytes: (1 << 20) + 7,
        ..Default::default()
    };
    let facts = Arc::new(Facts {
        resources: Some(asked),
        ..(*facts).clone()
    });
    assert_eq!(cgroup.told(&facts), (1 << 20) + 7);
}

/// Of a directory of a usual file system; of a cgroup's end some kernels tell nothing.
#[test]
fn one_that_is_gone_is_forgotten() {
    let cgroup = Cgroup::new();
    let facts = cgroup.asked();
    cgroup.told(&facts);
    assert_eq!(cgroup.limits.lock().ids.len(), 1);
    fs::remove_dir_all(cgroup.path()).unwrap();
    assert_eq!(cgroup.told(&facts), 0);
    assert!(cgroup.limits.lock().ids.is_empty());
}

#[test]
fn only_those_that_are_there_stay_watched() {
    let cgroup = Cgroup::new();
    let facts = cgroup.asked();
    cgroup.told(&facts);
    cgroup.limits.retain(&HashSet::from([facts.id.clone()]));
    assert!(cgroup.knows(&facts));
    cgroup.limits.retain(&HashSet::new());
    let known = cgroup.limits.lock();
    assert!(known.ids.is_empty() && known.containers.is_empty());
    drop(known);
    assert_eq!(cgroup.told(&facts), 1 << 20);
}
