//! The limits that hold for containers, as their cgroups have them.
//!
//! A kubelet asks for the status of every container each time it looks at the size of its log. So
//! what was read is known until somebody writes a file of the cgroup: inotify(7) tells of that, by
//! whichever mount of the hierarchy. It does not tell of controllers that are taken away and given back
//! further up, which resets limits: nothing is known for more than a minute. The kernel is asked for news
//! before every answer. The questions of a start are not worth a watch: one that comes later makes it.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{CWD, Mode, OFlags, openat};
use skiff_cri::v1 as cri;
use skiff_spec::report_resources;

use super::view::{ContainerView, Facts};
use crate::id::Id;

/// Room for some dozens of events.
const EVENTS: usize = 2048;
/// Events that are taken in at once, at most. Who writes without end holds up nobody.
const MOST: usize = 256;
/// How long what was read is known.
const KNOWN: Duration = Duration::from_secs(60);
/// Questions that come sooner after the first one belong to a start.
const START: Duration = Duration::from_secs(1);

/// What is known of the limits of all containers.
#[derive(Debug)]
pub struct Limits {
    /// `None` where the kernel gives us none: then all is read each time.
    inotify: Option<OwnedFd>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    containers: HashMap<Id, Asked>,
    /// Containers by their watch descriptors.
    ids: HashMap<i32, Id>,
}

/// A container that somebody has asked for.
#[derive(Debug)]
enum Asked {
    /// At this time first. Nothing is known.
    Since(Instant),
    Watched(Watched),
}

/// A cgroup that the kernel tells of.
#[derive(Debug)]
struct Watched {
    descriptor: i32,
    /// How often somebody has written, as far as that was told.
    writes: u64,
    held: Option<Held>,
}

/// What was read since.
#[derive(Debug)]
struct Held {
    at: Instant,
    /// What had been asked for then.
    facts: Arc<Facts>,
    limits: cri::LinuxContainerResources,
}

/// What a look at what is known says.
enum Look {
    Known(cri::LinuxContainerResources),
    /// To be read; it can be kept unless there are more writes by then.
    Unknown(Seen),
    /// To be read, and worth a watch before.
    Worth,
    /// To be read, and not to be kept.
    Unwatched,
}

/// How much had been told of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    descriptor: i32,
    writes: u64,
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
        let Some(inotify) = &self.inotify else {
            return read(facts);
        };
        let seen = match self.look(inotify, facts) {
            Look::Known(limits) => return limits,
            Look::Unknown(seen) => Some(seen),
            Look::Worth => self.watch(inotify, facts),
            Look::Unwatched => None,
        };
        let limits = read(facts);
        if let Some(seen) = seen {
            self.keep(inotify, facts, seen, &limits);
        }
        limits
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
        containers.retain(|id, asked| {
            let stays = ids.contains(id);
            if let Asked::Watched(watched) = asked
                && !stays
            {
                by.remove(&watched.descriptor);
                // Some kernels have ended the watch with the cgroup.
                let _ = inotify::remove_watch(inotify, watched.descriptor);
            }
            stays
        });
    }

    fn look(&self, inotify: &OwnedFd, facts: &Arc<Facts>) -> Look {
        let mut known = self.lock();
        known.hear(inotify);
        match known.containers.get(&facts.id) {
            None => {
                let now = Asked::Since(Instant::now());
                known.containers.insert(facts.id.clone(), now);
                Look::Unwatched
            }
            Some(Asked::Since(first)) if first.elapsed() < START => Look::Unwatched,
            Some(Asked::Since(_)) => Look::Worth,
            Some(Asked::Watched(watched)) => match &watched.held {
                Some(held) if held.stands_for(facts) => Look::Known(held.limits.clone()),
                _ => Look::Unknown(watched.seen()),
            },
        }
    }

    /// Has the kernel tell of a container's cgroup from now on. Holds no lock while the kernel walks
    /// there.
    fn watch(&self, inotify: &OwnedFd, facts: &Facts) -> Option<Seen> {
        let events = WatchFlags::MODIFY | WatchFlags::ONLYDIR;
        // It is not there any more, or there are too many watches.
        let descriptor = inotify::add_watch(inotify, &facts.cgroup, events).ok()?;
        let mut known = self.lock();
        if let Some(Asked::Watched(watched)) = known.containers.get(&facts.id) {
            // Somebody else was quicker; it is the same watch.
            return Some(watched.seen());
        }
        known.ids.insert(descriptor, facts.id.clone());
        let watched = Watched {
            descriptor,
            writes: 0,
            held: None,
        };
        let seen = watched.seen();
        let watched = Asked::Watched(watched);
        known.containers.insert(facts.id.clone(), watched);
        Some(seen)
    }

    fn keep(
        &self,
        inotify: &OwnedFd,
        facts: &Arc<Facts>,
        seen: Seen,
        limits: &cri::LinuxContainerResources,
    ) {
        let mut known = self.lock();
        known.hear(inotify);
        if let Some(Asked::Watched(watched)) = known.containers.get_mut(&facts.id)
            && watched.seen() == seen
        {
            watched.held = Some(Held {
                at: Instant::now(),
                facts: Arc::clone(facts),
                limits: limits.clone(),
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Takes in what the kernel has to tell.
    fn hear(&mut self, inotify: &OwnedFd) {
        if self.ids.is_empty() {
            return;
        }
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut reader = Reader::new(inotify, &mut buffer);
        for _ in 0..MOST {
            // The only error is that there is nothing more.
            let Ok(event) = reader.next() else { return };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                self.all_written();
            } else if event.events().contains(ReadFlags::IGNORED) {
                if let Some(id) = self.ids.remove(&event.wd()) {
                    self.containers.remove(&id);
                }
            } else if event.file_name().is_none_or(is_limit)
                && let Some(id) = self.ids.get(&event.wd())
                && let Some(Asked::Watched(watched)) = self.containers.get_mut(id)
            {
                watched.written();
            }
        }
        self.all_written();
    }

    fn all_written(&mut self) {
        for asked in self.containers.values_mut() {
            if let Asked::Watched(watched) = asked {
                watched.written();
            }
        }
    }
}

/// Whether a file may be one of a limit. The kernel tells of those that count events by itself, and
/// processes are moved by a file.
fn is_limit(file: &CStr) -> bool {
    let name = file.to_bytes();
    let is_other = name.starts_with(b"cgroup.")
        || name.ends_with(b".events")
        || name.ends_with(b".events.local")
        || name.ends_with(b".pressure");
    !is_other
}

impl Watched {
    fn seen(&self) -> Seen {
        Seen {
            descriptor: self.descriptor,
            writes: self.writes,
        }
    }

    fn written(&mut self) {
        self.writes += 1;
        self.held = None;
    }
}

impl Held {
    fn stands_for(&self, facts: &Arc<Facts>) -> bool {
        Arc::ptr_eq(&self.facts, facts) && self.at.elapsed() < KNOWN
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
mod tests;
