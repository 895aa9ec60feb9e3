//! Control groups, version 2 only.
//!
//! A container's cgroup is made with its limits before the container is, and the container is
//! cloned into it: writing `cgroup.procs` takes a lock for which the kernel waits 7 to 10 ms
//! when the hierarchy has been idle. Nothing is read that is not needed: values are written,
//! and only a file that is not there makes us look for the controller that would bring it.

mod devices;
mod hierarchy;
mod oom_score;
pub(crate) mod resources;
mod update;

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use crate::Error;
use crate::error::Doing;
use crate::oci_spec::runtime::LinuxResources;
use resources::Write;

pub use devices::programs as device_programs;
pub use oom_score::set_oom_score_adj;
pub use update::{high, put_back_high, update};

/// An open cgroup directory.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    dir: OwnedFd,
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Makes a cgroup with missing parents, or takes an empty one that is there. With limits, sets
/// them and restricts devices; without, it is for a process of ours.
/// On error a cgroup made here is gone again.
pub(crate) fn make(path: &Path, limits: Option<&LinuxResources>) -> Result<Cgroup, Error> {
    let writes = limits
        .map(resources::writes)
        .transpose()?
        .unwrap_or_default();
    let made = hierarchy::make(path)?;
    let done = open(path).and_then(|cgroup| {
        cgroup.write_all(&writes)?;
        if let Some(limits) = limits {
            let rules = limits.devices().as_deref().unwrap_or_default();
            devices::restrict(cgroup.as_fd(), rules)?;
        }
        Ok(cgroup)
    });
    if done.is_err() && made {
        let _ = rustix::fs::rmdir(path);
    }
    done
}

/// Refuses limits that no cgroup can have.
#[cfg(feature = "oci")]
pub(crate) fn check(limits: &LinuxResources) -> Result<(), Error> {
    resources::writes(limits)?;
    devices::check(limits.devices().as_deref().unwrap_or_default())
}

/// Opens a cgroup that is there.
pub(crate) fn open(path: &Path) -> Result<Cgroup, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty())
        .doing(|| format!("open cgroup {}", path.display()))?;
    Ok(Cgroup {
        path: path.to_owned(),
        dir,
    })
}

/// Opens the cgroup of a process, when it is one below `top`.
pub(crate) fn of_process(pid: i32, top: &Path) -> Result<Option<Cgroup>, Error> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).doing(|| format!("read {path}"))?;
    below(&text, top).map(|path| open(&path)).transpose()
}

/// The path of the cgroup that /proc/pid/cgroup names, when it is below `top`.
fn below(text: &str, top: &Path) -> Option<PathBuf> {
    let name = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let path = Path::new(hierarchy::ROOT).join(name);
    let inner = path.strip_prefix(top).ok()?;
    let plain = |part| matches!(part, Component::Normal(_));
    (inner != Path::new("") && inner.components().all(plain)).then_some(path)
}

impl Cgroup {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn write_all(&self, writes: &[Write]) -> Result<(), Error> {
        for write in writes {
            match self.write(write) {
                Err(Errno::NOENT) => {
                    hierarchy::enable(&self.path, &write.file)?;
                    self.write(write)
                }
                done => done,
            }
            .or_else(|e| write.forgives(e))
            .map_err(|e| self.refused(write, e))?;
        }
        Ok(())
    }

    /// Why a value is not in its file: there is no such file, or it is no value for that, unless
    /// something else went wrong.
    fn refused(&self, write: &Write, error: Errno) -> Error {
        let writing = self.writing(write);
        match error {
            Errno::NOENT | Errno::INVAL | Errno::RANGE => {
                Error::invalid("linux.resources", format!("{writing}: {error}"))
            }
            error => Error::system(writing, error),
        }
    }

    fn writing(&self, write: &Write) -> String {
        let (value, path) = (&write.value, self.path.display());
        format!("write {value:?} to {path}/{}", write.file)
    }

    fn write(&self, write: &Write) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&self.dir, &*write.file, flags, Mode::empty())?;
        rustix::io::write(file, write.value.as_bytes())?;
        Ok(())
    }
}

/// Does ahead what the first container would wait for. A kernel that cannot do it says so when
/// there is a container.
pub fn prepare() {
    let _ = devices::prepare();
}

/// Kills every process in the cgroup and below (`cgroup.kill`). Succeeds when it is not there.
pub fn kill_all(cgroup: &Path) -> Result<(), Error> {
    match write_file(&cgroup.join("cgroup.kill"), "1") {
        Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(e) => Err(Error::system(
            format!("kill cgroup {}", cgroup.display()),
            e,
        )),
    }
}

/// Stops or resumes every process in the cgroup. The kernel needs a moment: `frozen` of
/// `cgroup.events` tells when all have stopped.
pub fn freeze(cgroup: &Path, frozen: bool) -> Result<(), Error> {
    let value = if frozen { "1" } else { "0" };
    write_file(&cgroup.join("cgroup.freeze"), value)
        .doing(|| format!("write {value} to cgroup.freeze of {}", cgroup.display()))
}

/// Is every process of the cgroup stopped (`frozen` of `cgroup.events`)?
pub fn is_frozen(cgroup: &Path) -> Result<bool, Error> {
    Ok(event(&cgroup.join("cgroup.events"), "frozen")? == Some(1))
}

/// How many processes the OOM killer has killed in the cgroup and below (`oom_kill` of
/// `memory.events`); 0 where the memory controller is absent.
pub fn oom_kills(cgroup: &Path) -> u64 {
    event(&cgroup.join("memory.events"), "oom_kill")
        .ok()
        .flatten()
        .unwrap_or(0)
}

/// Pids of the processes in the cgroup and below.
pub fn processes(cgroup: &Path) -> Result<Vec<i32>, Error> {
    let doing = || format!("list the processes of cgroup {}", cgroup.display());
    let mut pids = Vec::new();
    let text = match std::fs::read_to_string(cgroup.join("cgroup.procs")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(pids),
        // A threaded cgroup lists its processes in the domain above.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => String::new(),
        done => done.doing(doing)?,
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(cgroup).doing(doing)? {
        pids.extend(processes(&child)?);
    }
    Ok(pids)
}

/// Removes the cgroup and everything below. `Ok(false)`: it is still busy with processes on
/// their way out, to be tried again. Succeeds when it is not there.
pub fn remove(cgroup: &Path) -> Result<bool, Error> {
    let doing = || format!("remove cgroup {}", cgroup.display());
    match unlinkat(rustix::fs::CWD, cgroup, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::BUSY) => {}
        Err(e) => return Err(Error::system(doing(), e)),
    }
    let mut gone = true;
    let below = children(cgroup).doing(doing)?;
    for child in &below {
        gone &= remove(child)?;
    }
    if below.is_empty() || !gone {
        return Ok(false);
    }
    match unlinkat(rustix::fs::CWD, cgroup, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::BUSY) => Ok(false),
        Err(e) => Err(Error::system(doing(), e)),
    }
}

/// Cgroups right below; none when the cgroup is gone.
fn children(cgroup: &Path) -> io::Result<Vec<PathBuf>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(cgroup, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        done => done?,
    };
    let mut found = Vec::new();
    for entry in Dir::new(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory && name != b"." && name != b".." {
            found.push(cgroup.join(String::from_utf8_lossy(name).as_ref()));
        }
    }
    Ok(found)
}

/// One number of a file of lines "key number"; `None` when there is no such file or line.
fn event(path: &Path, key: &str) -> Result<Option<u64>, Error> {
    let mut text = String::new();
    match std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        done => done.doing(|| format!("read {}", path.display()))?,
    };
    Ok(find_event(&text, key))
}

fn find_event(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

fn write_file(path: &Path, value: &str) -> rustix::io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, value.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cgroup_below_is_taken() {
        let top = Path::new("/sys/fs/cgroup/pod/c");
        let found = below("1:name=systemd:/x\n0::/pod/c/init.scope\n", top);
        assert_eq!(found.as_deref(), Some(&*top.join("init.scope")));
        for elsewhere in [
            "",
            "0::/",
            "0::/pod/c",
            "0::/pod/c2/a",
            "0::/pod/c/../d",
            "0::/pod",
        ] {
            assert_eq!(below(elsewhere, top), None, "{elsewhere}");
        }
    }

    #[test]
    fn oom_kill_is_not_oom() {
        let text = "low 0\nhigh 3\nmax 12\noom 7\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(find_event(text, "oom_kill"), Some(2));
        assert_eq!(find_event(text, "oom"), Some(7));
        assert_eq!(find_event(text, "none"), None);
    }

    #[test]
    fn absent_cgroup_is_killed_and_removed_already() {
        let none = Path::new("/no/such/cgroup");
        kill_all(none).unwrap();
        assert!(remove(none).unwrap());
        assert_eq!(oom_kills(none), 0);
        assert!(processes(none).unwrap().is_empty());
    }
}
