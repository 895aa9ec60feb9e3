//! The files of a cgroup.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use skiff_stats::Files;

/// Cgroups nested deeper in a container are not looked into: each level costs a file descriptor,
/// and the nesting is up to the container.
const MAX_DEPTH: usize = 32;
/// The least that the kernel has ready for a read of one of its files.
const PAGE: usize = 4096;
/// No line of such a file is longer.
const LINE: usize = 512;

/// An open cgroup.
pub(super) struct Cgroup {
    dir: OwnedFd,
    content: Vec<u8>,
}

impl Cgroup {
    /// Opens one; `None` when there is none. Its files are then found without a walk along the
    /// whole path, for each of them.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty()).ok()?;
        let content = Vec::with_capacity(PAGE);
        Some(Self { dir, content })
    }

    /// Ids of all processes in it and in cgroups below it.
    pub(super) fn processes(&mut self) -> Option<Vec<i32>> {
        let mut pids = Vec::new();
        self.gather(0, &mut pids)?;
        Some(pids)
    }

    fn gather(&mut self, depth: usize, pids: &mut Vec<i32>) -> Option<()> {
        let text = self.read("cgroup.procs")?;
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        // Two links, its name and its own `.`, are those of a directory without directories in it.
        let nested = fstat(&self.dir).is_ok_and(|stat| stat.st_nlink > 2);
        if nested && depth < MAX_DEPTH {
            for mut below in self.below() {
                // It may be gone by now, or threaded: then its processes are its parent's.
                let _ = below.gather(depth + 1, pids);
            }
        }
        Some(())
    }

    fn below(&self) -> Vec<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(entries) =
            openat(&self.dir, ".", flags, Mode::empty()).and_then(|dir| Dir::read_from(&dir))
        else {
            return Vec::new();
        };
        let entries = entries.flatten().filter(|entry| {
            entry.file_type() == FileType::Directory
                && !matches!(entry.file_name().to_bytes(), b"." | b"..")
        });
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |name: &std::ffi::CStr| openat(&self.dir, name, flags, Mode::empty()).ok();
        entries
            .filter_map(|entry| open(entry.file_name()))
            .map(|dir| Self {
                dir,
                content: Vec::new(),
            })
            .collect()
    }
}

impl Files for Cgroup {
    fn read(&mut self, name: &str) -> Option<&str> {
        read(&self.dir, name, &mut self.content).ok()?;
        std::str::from_utf8(&self.content).ok()
    }
}

/// Files of a cgroup that are looked at again and again: they stay open, which spares two of three
/// system calls. Nobody is kept from removing the cgroup; its files then cannot be read.
pub(super) struct Standing {
    cgroup: PathBuf,
    files: Vec<(String, OwnedFd)>,
    content: Vec<u8>,
}

impl Standing {
    /// Of this cgroup. A file is opened when it is first asked for.
    pub(super) fn new(cgroup: PathBuf) -> Self {
        Self {
            cgroup,
            files: Vec::new(),
            content: Vec::new(),
        }
    }

    /// Gives back the room for content: there is one of these for every pod.
    pub(super) fn shrink(&mut self) {
        self.content = Vec::new();
    }

    fn open(&mut self, name: &str) -> Option<usize> {
        if let Some(place) = self.files.iter().position(|(file, _)| file == name) {
            return Some(place);
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(CWD, self.cgroup.join(name), flags, Mode::empty()).ok()?;
        self.files.push((name.to_owned(), file));
        Some(self.files.len() - 1)
    }
}

impl Files for Standing {
    fn read(&mut self, name: &str) -> Option<&str> {
        let place = self.open(name)?;
        read_open(&self.files[place].1, &mut self.content).ok()?;
        std::str::from_utf8(&self.content).ok()
    }
}

/// A file that the kernel makes up as it is read. It ends where a read leaves room for another
/// line: those are shorter than [`LINE`], and a read stops early only before one that does not fit
/// (seq_file.rst). That saves asking for the end.
pub(super) fn read(dir: impl AsFd, name: &str, content: &mut Vec<u8>) -> Result<(), Errno> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    read_open(&file, content)
}

/// The same, of a file that may have been read before.
fn read_open(file: &OwnedFd, content: &mut Vec<u8>) -> Result<(), Errno> {
    content.clear();
    loop {
        content.reserve(PAGE);
        let at = content.len() as u64;
        let room = rustix::buffer::spare_capacity(content);
        let length = rustix::io::pread(file, room, at)?;
        if length + LINE <= PAGE {
            return Ok(());
        }
    }
}

/// Sizes of the host's huge pages as the names of cgroup files have them (hugetlb_cgroup.c): the
/// largest unit that leaves a whole number.
pub(super) fn huge_page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages");
    let names = entries.into_iter().flatten().flatten();
    names
        .filter_map(|entry| huge_page_size(entry.file_name().to_str()?))
        .collect()
}

/// The size in the name of a directory such as `hugepages-2048kB`.
fn huge_page_size(name: &str) -> Option<String> {
    let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
    let kib: u64 = kib.parse().ok()?;
    let (gib, mib) = (kib >> 20, kib >> 10);
    Some(match (gib, mib) {
        (1.., _) => format!("{gib}GB"),
        (0, 1..) => format!("{mib}MB"),
        (0, 0) => format!("{kib}KB"),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn processes_of_nested_cgroups_count() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        assert!(Cgroup::open(root.path()).unwrap().processes().is_none());
        fs::write(root.path().join("cgroup.procs"), "1\n2\n").unwrap();
        fs::write(root.path().join("a/cgroup.procs"), "").unwrap();
        fs::write(below.join("cgroup.procs"), "3\n").unwrap();
        let pids = Cgroup::open(root.path()).unwrap().processes();
        assert_eq!(pids.unwrap(), [1, 2, 3]);
    }

    #[test]
    fn files_longer_than_a_page_are_read_whole() {
        let root = tempfile::tempdir().unwrap();
        let text = "8:0 rbytes=1\n".repeat(2000);
        fs::write(root.path().join("io.stat"), &text).unwrap();
        let mut cgroup = Cgroup::open(root.path()).unwrap();
        assert_eq!(cgroup.read("io.stat"), Some(&*text));
        assert_eq!(cgroup.read("none"), None);
        assert!(Cgroup::open(&root.path().join("none")).is_none());
    }

    #[test]
    fn a_file_that_stays_open_is_read_anew() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("cpu.stat");
        let mut standing = Standing::new(root.path().into());
        assert_eq!(standing.read("cpu.stat"), None);
        for text in ["usage_usec 1\n".repeat(500), "usage_usec 2\n".into()] {
            fs::write(&path, &text).unwrap();
            assert_eq!(standing.read("cpu.stat"), Some(&*text));
            assert_eq!(standing.read("cpu.stat"), Some(&*text));
        }
        assert_eq!(standing.files.len(), 1);
    }

    #[test]
    fn huge_pages_are_named_as_their_files_are() {
        assert_eq!(huge_page_size("hugepages-2048kB").unwrap(), "2MB");
        assert_eq!(huge_page_size("hugepages-1048576kB").unwrap(), "1GB");
        assert_eq!(huge_page_size("hugepages-64kB").unwrap(), "64KB");
        assert_eq!(huge_page_size("other"), None);
    }
}
