//! What the processes of a container have open.

use std::fs;

use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};
use skiff_stats::process::open_files_limit;

/// Open files of some processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OpenFiles {
    /// All of them.
    pub(super) files: u64,
    /// Those that are sockets.
    pub(super) sockets: u64,
    /// How many the first process may have; `None` without a limit.
    pub(super) limit: Option<u64>,
}

impl OpenFiles {
    /// Counts those of these processes, of which `first` is the container's first one. Takes a
    /// system call for each file.
    pub(super) fn count(pids: &[i32], first: i32) -> Self {
        let limits = fs::read_to_string(format!("/proc/{first}/limits"));
        let mut open = Self {
            limit: limits.ok().and_then(|text| open_files_limit(&text)),
            ..Self::default()
        };
        for pid in pids {
            // One that has ended meanwhile has none open.
            let _ = open.add(*pid);
        }
        open
    }

    fn add(&mut self, pid: i32) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, format!("/proc/{pid}/fd"), flags, Mode::empty())?;
        let mut target = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            self.files += 1;
            if let Ok(link) = readlinkat(&dir, entry.file_name(), target) {
                self.sockets += u64::from(link.to_bytes().starts_with(b"socket:"));
                target = link.into_bytes();
            } else {
                target = Vec::new();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_told_apart() {
        let me = std::process::id().cast_signed();
        let before = OpenFiles::count(&[me], me);
        let _held: Vec<_> = (0..40)
            .map(|_| std::os::unix::net::UnixStream::pair().unwrap())
            .collect();
        let after = OpenFiles::count(&[me], me);
        // Other tests open and close files meanwhile.
        assert!(after.sockets >= before.sockets + 60, "{before:?} {after:?}");
        assert!(after.files > after.sockets && after.limit.is_some());
        assert_eq!(
            OpenFiles::count(&[i32::MAX], i32::MAX),
            OpenFiles::default()
        );
    }
}
