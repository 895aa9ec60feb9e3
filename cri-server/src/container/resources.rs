//! The limits that hold for containers, as their cgroups have them.
//!
//! A kubelet asks for the status of every container each time it looks at the size of its log. So
//! what was read is known until somebody writes a file of the cgroup: inotify(7) tells of that, by
//! whichever mount of the hierarchy, and limits change in no other way. The kernel is asked for news before
//! every answer. A start has one question only, which is not worth a watch: the second one makes it.

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{CWD, Mode, OFlags, openat};
use skiff_cri::v1 as cri;
use skiff_spec::report_resources;

use super::view::{ContainerView, Facts};
use crate::id::Id;

/// Room for some dozens of events.
const EVENTS: usize = 2048;

/// What is known of the limits of all containers.
#[derive(Debug)]
pub struct Limits {
    /// `None` where the kernel gives us none: then all is read each time.
    inotify: Option<OwnedFd>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// `None`: asked for once.
    containers: HashMap<Id, Option<Watched>>,
    /// Containers by their watch descriptors.
    ids: HashMap<i32, Id>,
}

/// A cgroup that the kernel tells of.
#[derive(Debug)]
struct Watched {
    descriptor: i32,
    /// How often somebody has written, as far as that was told.
    writes: u64,
    /// What was read since, and what had been asked for then.
    held: Option<(Arc<Facts>, cri::LinuxContainerResources)>,
}

/// What a look at what is known says.
enum Look {
    Known(cri::LinuxContainerResources),
    /// To be read; it can be kept unless there are more writes by then.
    Unknown {
        writes: u64,
    },
    /// To be read, and not to be kept.
    Unwatched,
}

impl Default for Limits {
    fn default() -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let inotify = inotify.inspect_err(|error| {
            tracing::warn!(%error, "limits of containers are read at every question: no inotify");
        });
        Self {
            inotify: inotify.ok(),
            known: Mutex::default(),
        }
    }
}

impl Limits {
    /// The status of a container with the limits that hold now. An ended one's cgroup says nothing
    /// more than was asked for, if it is there at all.
    pub fn status(&self, container: &ContainerView) -> cri::ContainerStatus {
        let mut status = container.status();
        if container.state.process().is_some() {
            status.resources = Some(cri::ContainerResources {
                linux: Some(self.held(&container.facts)),
                windows: None,
            });
        }
        status
    }

    /// The limits asked for, corrected by what the cgroup's files say now.
    pub fn held(&self, facts: &Arc<Facts>) -> cri::LinuxContainerResources {
        match self.look(facts) {
            Look::Known(held) => held,
            Look::Unwatched => read(facts),
            Look::Unknown { writes } => {
                let held = read(facts);
                self.keep(facts, writes, &held);
                held
            }
        }
    }

    /// Forgets all containers but these. The kernel keeps what is left of a cgroup as long as it is
    /// watched.
    pub fn retain(&self, ids: &HashSet<Id>) {
        let Some(inotify) = &self.inotify else { return };
        let mut known = self.lock();
        let Known {
            containers,
            ids: by,
        } = &mut *known;
        containers.retain(|id, watched| {
            let stays = ids.contains(id);
            if let Some(watched) = watched
                && !stays
            {
                by.remove(&watched.descriptor);
                // Some kernels have ended the watch with the cgroup.
                let _ = inotify::remove_watch(inotify, watched.descriptor);
            }
            stays
        });
    }

    fn look(&self, facts: &Arc<Facts>) -> Look {
        let Some(inotify) = &self.inotify else {
            return Look::Unwatched;
        };
        let mut known = self.lock();
        known.hear(inotify);
        match known.containers.get(&facts.id) {
            None => {
                known.containers.insert(facts.id.clone(), None);
                Look::Unwatched
            }
            Some(None) => {
                let events = WatchFlags::MODIFY | WatchFlags::ONLYDIR;
                match inotify::add_watch(inotify, &facts.cgroup, events) {
                    Ok(descriptor) => known.watch(&facts.id, descriptor),
                    // It is not there yet or any more, or there are too many watches.
                    Err(_) => Look::Unwatched,
                }
            }
            Some(Some(Watched { writes, held, .. })) => match held {
                Some((asked, held)) if Arc::ptr_eq(asked, facts) => Look::Known(held.clone()),
                _ => Look::Unknown { writes: *writes },
            },
        }
    }

    fn keep(&self, facts: &Arc<Facts>, writes: u64, held: &cri::LinuxContainerResources) {
        let Some(inotify) = &self.inotify else { return };
        let mut known = self.lock();
        known.hear(inotify);
        if let Some(Some(watched)) = known.containers.get_mut(&facts.id)
            && watched.writes == writes
        {
            watched.held = Some((Arc::clone(facts), held.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn watch(&mut self, id: &Id, descriptor: i32) -> Look {
        self.ids.insert(descriptor, id.clone());
        let watched = Watched {
            descriptor,
            writes: 0,
            held: None,
        };
        self.containers.insert(id.clone(), Some(watched));
        Look::Unknown { writes: 0 }
    }

    /// Takes in what the kernel has to tell.
    fn hear(&mut self, inotify: &OwnedFd) {
        if self.ids.is_empty() {
            return;
        }
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut reader = Reader::new(inotify, &mut buffer);
        // The only error is that there is nothing more.
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                let watched = self.containers.values_mut().flatten();
                watched.for_each(Watched::written);
            } else if event.events().contains(ReadFlags::IGNORED) {
                if let Some(id) = self.ids.remove(&event.wd()) {
                    self.containers.remove(&id);
                }
            } else if let Some(id) = self.ids.get(&event.wd())
                && let Some(Some(watched)) = self.containers.get_mut(id)
            {
                watched.written();
            }
        }
    }
}

impl Watched {
    fn written(&mut self) {
        self.writes += 1;
        self.held = None;
    }
}

fn read(facts: &Facts) -> cri::LinuxContainerResources {
    let none = cri::LinuxContainerResources::default();
    report_resources(facts.resources().unwrap_or(&none), |file| {
        read_file(&facts.cgroup.join(file))
    })
}

/// The content of a cgroup's file, which a page holds; `None` when there is none to be read.
fn read_file(path: &Path) -> Option<String> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut page = [0; 4096];
    let length = rustix::io::read(&file, &mut page).ok()?;
    String::from_utf8(page[..length].to_vec()).ok()
}

#[cfg(test)]
mod tests {
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
            let limits = Limits::default();
            Self { dir, limits }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("a")
        }

        fn set(&self, bytes: u64) {
            fs::write(self.path().join("memory.max"), format!("{bytes}\n")).unwrap();
        }

        fn facts(&self) -> Arc<Facts> {
            let facts = Facts {
                cgroup: self.path(),
                ..(*container("a", running()).facts).clone()
            };
            Arc::new(facts)
        }

        fn told(&self, facts: &Arc<Facts>) -> i64 {
            self.limits.held(facts).memory_limit_in_bytes
        }

        fn knows(&self, facts: &Facts) -> bool {
            let known = self.limits.lock();
            let watched = known.containers.get(&facts.id).and_then(Option::as_ref);
            watched.is_some_and(|watched| watched.held.is_some())
        }
    }

    #[test]
    fn what_was_read_is_known_until_somebody_writes() {
        let cgroup = Cgroup::new();
        cgroup.set(1 << 20);
        let facts = cgroup.facts();
        assert_eq!(cgroup.told(&facts), 1 << 20);
        assert!(!cgroup.knows(&facts), "after one question");
        assert_eq!(cgroup.told(&facts), 1 << 20);
        assert!(cgroup.knows(&facts));
        assert_eq!(cgroup.told(&facts), 1 << 20);
        cgroup.set(1 << 21);
        assert_eq!(cgroup.told(&facts), 1 << 21);
        cgroup.set(1 << 22);
        cgroup.set(1 << 23);
        assert_eq!(cgroup.told(&facts), 1 << 23);
        assert!(cgroup.knows(&facts));
    }

    #[test]
    fn what_is_read_while_somebody_writes_is_not_kept() {
        let cgroup = Cgroup::new();
        cgroup.set(1 << 20);
        let facts = cgroup.facts();
        cgroup.told(&facts);
        let Look::Unknown { writes } = cgroup.limits.look(&facts) else {
            panic!("it is known, or cannot be watched");
        };
        let old = read(&facts);
        cgroup.set(1 << 21);
        cgroup.limits.keep(&facts, writes, &old);
        assert!(!cgroup.knows(&facts));
        assert_eq!(cgroup.told(&facts), 1 << 21);
    }

    #[test]
    fn other_limits_asked_for_are_compared_anew() {
        let cgroup = Cgroup::new();
        cgroup.set(1 << 20);
        let facts = cgroup.facts();
        assert_eq!(cgroup.told(&facts), 1 << 20);
        assert_eq!(cgroup.told(&facts), 1 << 20);
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

    #[test]
    fn one_that_is_gone_is_forgotten_and_may_come_again() {
        let cgroup = Cgroup::new();
        let facts = cgroup.facts();
        cgroup.set(1 << 20);
        cgroup.told(&facts);
        cgroup.told(&facts);
        assert_eq!(cgroup.limits.lock().ids.len(), 1);
        fs::remove_dir_all(cgroup.path()).unwrap();
        assert_eq!(cgroup.told(&facts), 0);
        assert!(cgroup.limits.lock().ids.is_empty());
        fs::create_dir(cgroup.path()).unwrap();
        cgroup.set(1 << 21);
        assert_eq!(cgroup.told(&facts), 1 << 21);
        assert_eq!(cgroup.told(&facts), 1 << 21);
        cgroup.limits.retain(&HashSet::from([facts.id.clone()]));
        assert!(cgroup.knows(&facts));
        cgroup.limits.retain(&HashSet::new());
        assert!(!cgroup.knows(&facts));
        assert_eq!(cgroup.told(&facts), 1 << 21);
    }
}
