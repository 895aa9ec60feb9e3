//! Tells whether anything may have changed since it was armed.
//!
//! The kernel queues an event before the call that changed a file returns, so whoever looks at
//! the queue afterwards finds it: a driver that writes a file and then has a container made needs
//! to wait for nobody. Nothing runs in between.

use std::io;
use std::path::{Path, PathBuf};

use inotify::{Inotify, WatchMask};

/// Watches over directories. Good for one ring.
#[derive(Debug)]
pub(crate) struct Watch(Option<Inotify>);

impl Watch {
    /// Without inotify (no instance left) this rings every time.
    pub(crate) fn arm(dirs: &[PathBuf]) -> Self {
        Self(watch(dirs).ok())
    }

    /// Whether something has changed, or may have.
    pub(crate) fn has_rung(&mut self) -> bool {
        let Some(inotify) = &mut self.0 else {
            return true;
        };
        let mut buffer = [0; 1024];
        match inotify.read_events(&mut buffer) {
            Ok(mut events) => events.next().is_some(),
            Err(e) => e.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// Watches directories, or where one is missing the nearest above that is there.
fn watch(dirs: &[PathBuf]) -> io::Result<Inotify> {
    let gone = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
    let appears = WatchMask::CREATE | WatchMask::MOVED_TO;
    let content = WatchMask::MODIFY
        | WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_FROM
        | WatchMask::DELETE
        | WatchMask::ATTRIB;
    let inotify = Inotify::init()?;
    for dir in dirs {
        let add = |path: &Path, mask| inotify.watches().add(path, mask | gone | appears);
        if add(dir, content).is_ok() {
            continue;
        }
        let above = dir
            .ancestors()
            .skip(1)
            .any(|above| add(above, WatchMask::MASK_ADD).is_ok());
        if !above {
            return Err(io::Error::other("nothing to watch"));
        }
    }
    Ok(inotify)
}
