//! What is kept about a container between two executions of this program:
//! `<root>/<id>/state.json`, and beside it `start.sock`, at which a created container waits, and
//! `cgroup`, which says from the beginning of its making what is killed with it: no two containers of a
//! root have cgroups of which one is the other or in it.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use skiff_runtime::oci_spec::runtime::{ContainerState, Spec, State, StateBuilder};
use skiff_runtime::{cgroup, process};

/// Layout of the record.
const VERSION: u32 = 1;
const RECORD: &str = "state.json";
const GATE: &str = "start.sock";
const CGROUP: &str = "cgroup";

/// Directory of all containers.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
}

/// A container, as recorded when it was created.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) id: String,
    pub(crate) pid: i32,
    /// Start time of that process: tells a reused pid.
    start_time: u64,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) cgroup: PathBuf,
    /// RFC 3339.
    pub(crate) created: String,
    pub(crate) spec: Spec,
    /// Where the record is.
    #[serde(skip)]
    dir: PathBuf,
}

/// Where a container is in its life. `Paused` is not a state of the runtime-spec but of runc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl Root {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Takes an id and a cgroup for a new container, and makes its directory.
    ///
    /// Only this is done under the lock, not the rest of the making: a hook may make containers, too.
    pub(crate) fn claim(&self, id: &str, cgroup: &Path) -> Result<Claim> {
        check_id(id)?;
        let dir = self.path.join(id);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&self.path)
            .with_context(|| format!("make {}", self.path.display()))?;
        let doing = || format!("lock {}", self.path.display());
        let lock = fs::File::open(&self.path).with_context(doing)?;
        flock(&lock, FlockOperation::LockExclusive).with_context(doing)?;
        match fs::DirBuilder::new().mode(0o711).create(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("container {id} exists already")
            }
            done => done.with_context(|| format!("make {}", dir.display()))?,
        }
        let claim = Claim { dir, kept: false };
        for other in self.names()?.filter(|name| name != id) {
            let Some(theirs) = self.cgroup_of(&other) else {
                continue;
            };
            if cgroup.starts_with(&theirs) || theirs.starts_with(cgroup) {
                bail!(
                    "linux.cgroupsPath: {} would be killed with {} of container {other}: delete that, \
                     or name another",
                    cgroup.display(),
                    theirs.display()
                );
            }
        }
        let path = claim.dir.join(CGROUP);
        fs::write(&path, cgroup.as_os_str().as_bytes())
            .with_context(|| format!("write {}", path.display()))?;
        Ok(claim)
    }

    /// The cgroup of a container, also of one that is being made; `None` when it has none that is known.
    fn cgroup_of(&self, id: &str) -> Option<PathBuf> {
        match fs::read(self.path.join(id).join(CGROUP)) {
            // One that was killed before it was written has made nothing.
            Ok(path) if !path.is_empty() => Some(OsString::from_vec(path).into()),
            _ => self.find(id).ok()?.map(|record| record.cgroup),
        }
    }

    /// Reads the record of a container.
    pub(crate) fn load(&self, id: &str) -> Result<Record> {
        match self.find(id)? {
            Some(record) => Ok(record),
            None => bail!("container {id} does not exist"),
        }
    }

    /// Like [`Self::load`], with `None` when there is none.
    pub(crate) fn find(&self, id: &str) -> Result<Option<Record>> {
        check_id(id)?;
        let dir = self.path.join(id);
        let path = dir.join(RECORD);
        let json = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            done => done.with_context(|| format!("read {}", path.display()))?,
        };
        let mut record: Record =
            serde_json::from_slice(&json).with_context(|| format!("parse {}", path.display()))?;
        if record.version != VERSION {
            bail!(
                "{}: version {} is not known",
                path.display(),
                record.version
            );
        }
        record.dir = dir;
        Ok(Some(record))
    }

    /// Removes what a create that was killed half way has left under this id.
    pub(crate) fn sweep(&self, id: &str) -> Result<()> {
        check_id(id)?;
        match fs::remove_dir_all(self.path.join(id)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.with_context(|| format!("remove the state of {id}")),
        }
    }

    /// Records of all containers, by id; unreadable ones are passed over.
    pub(crate) fn all(&self) -> Result<Vec<Record>> {
        let mut records: Vec<Record> = self
            .names()?
            .filter_map(|name| self.find(&name).ok().flatten())
            .collect();
        records.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(records)
    }

    /// Names in the root; none when there is no root yet.
    fn names(&self) -> Result<impl Iterator<Item = String>> {
        let entries = match fs::read_dir(&self.path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            done => Some(done.with_context(|| format!("list {}", self.path.display()))?),
        };
        let entries = entries.into_iter().flatten().flatten();
        Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()))
    }
}

/// The directory of a container being created; removed unless the record is written.
pub(crate) struct Claim {
    dir: PathBuf,
    kept: bool,
}

impl Claim {
    /// Path of the gate's socket.
    pub(crate) fn gate(&self) -> PathBuf {
        self.dir.join(GATE)
    }

    /// Writes the record.
    pub(crate) fn keep(&mut self, record: Record) -> Result<Record> {
        let record = Record {
            dir: self.dir.clone(),
            ..record
        };
        record.save()?;
        self.kept = true;
        Ok(record)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Record {
    /// A record of a container just built.
    pub(crate) fn new(
        id: &str,
        pid: i32,
        start_time: u64,
        bundle: PathBuf,
        cgroup: PathBuf,
        spec: Spec,
    ) -> Self {
        let root = spec
            .root()
            .as_ref()
            .map(|root| bundle.join(root.path()))
            .unwrap_or_default();
        Self {
            version: VERSION,
            id: id.to_owned(),
            pid,
            start_time,
            bundle,
            rootfs: root,
            cgroup,
            created: crate::log::now(),
            spec,
            dir: PathBuf::new(),
        }
    }

    /// Writes the record anew, under another name first.
    pub(crate) fn save(&self) -> Result<()> {
        let path = self.dir.join(RECORD);
        let temporary = self.dir.join(format!("{RECORD}.new"));
        let json = serde_json::to_vec(self)?;
        fs::write(&temporary, json)
            .and_then(|()| fs::rename(&temporary, &path))
            .with_context(|| format!("write {}", path.display()))
    }

    /// The container's first process, if it lives. What is returned is that process and no
    /// other of the same number.
    pub(crate) fn pidfd(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            done => done.with_context(|| format!("open process {}", self.pid))?,
        };
        match process::start_time(self.pid) {
            Ok(time) if time == self.start_time => {}
            _ => return Ok(None),
        }
        // A process that has ended stays until it is reaped, and its pidfd is readable.
        let mut poll = [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )];
        let nothing = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let ended = rustix::event::poll(&mut poll, Some(&nothing))? > 0;
        Ok((!ended).then_some(pidfd))
    }

    pub(crate) fn status(&self) -> Result<Status> {
        Ok(if self.pidfd()?.is_none() {
            Status::Stopped
        } else if self.gate().exists() {
            Status::Created
        } else if cgroup::is_frozen(&self.cgroup)? {
            Status::Paused
        } else {
            Status::Running
        })
    }

    /// Path of the gate's socket, gone once the container is started.
    pub(crate) fn gate(&self) -> PathBuf {
        self.dir.join(GATE)
    }

    /// The state as hooks are told it.
    pub(crate) fn oci_state(&self, status: Status) -> Result<State> {
        let state = StateBuilder::default()
            .version(self.spec.version().clone())
            .id(&self.id)
            .status(match status {
                Status::Created => ContainerState::Created,
                Status::Running | Status::Paused => ContainerState::Running,
                Status::Stopped => ContainerState::Stopped,
            })
            .pid(if status == Status::Stopped {
                0
            } else {
                self.pid
            })
            .bundle(&self.bundle)
            .annotations(self.spec.annotations().clone().unwrap_or_default());
        Ok(state.build()?)
    }

    /// Removes the record.
    pub(crate) fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.dir).with_context(|| format!("remove {}", self.dir.display()))
    }
}

/// Names a socket in a directory by a path short enough for `sockaddr_un`, whatever the
/// directory's; good while the returned descriptor is open.
pub(crate) fn short(path: &Path) -> Result<(OwnedFd, PathBuf)> {
    let (dir, name) = (path.parent(), path.file_name());
    let (Some(dir), Some(name)) = (dir, name) else {
        bail!("{} names no file", path.display())
    };
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, rustix::fs::Mode::empty())
        .with_context(|| format!("open {}", dir.display()))?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())).join(name);
    Ok((fd, short))
}

fn check_id(id: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || !id.chars().all(good) || id == "." || id == ".." {
        bail!("container id {id:?}: only letters, digits and _+-. are allowed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_directories() {
        for good in ["a", "A-b_c.d+e", "0123"] {
            check_id(good).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "../a", "a b", "a\n"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn id_is_taken_once_and_given_back_unless_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        let claim = |id| root.claim(id, Path::new("/c"));
        let first = claim("a").unwrap();
        assert!(claim("a").is_err());
        drop(first);
        let mut first = claim("a").unwrap();
        let record = Record::new("a", 1, 0, "/b".into(), "/c".into(), Spec::default());
        first.keep(record).unwrap();
        assert!(claim("a").is_err());
        let record = root.load("a").unwrap();
        assert_eq!(
            record.status().unwrap(),
            Status::Stopped,
            "pid 1 started at another time"
        );
        record.remove().unwrap();
        assert!(root.find("a").unwrap().is_none());
    }

    /// Who deletes a stopped container kills all that is in its cgroup, which could be another's.
    #[test]
    fn no_two_containers_have_cgroups_that_are_killed_together() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        let claim = |id, cgroup| root.claim(id, Path::new(cgroup));
        let refused = || {
            for cgroup in ["/x/y", "/x/y/z", "/x"] {
                let error = claim("b", cgroup).err().expect(cgroup).to_string();
                assert!(error.contains("container a"), "{error}");
                assert!(!dir.path().join("b").exists());
            }
            for cgroup in ["/x/yy", "/x/z", "/y"] {
                drop(claim("b", cgroup).unwrap());
            }
        };
        // While it is made, when it is there, and by a record that has nothing beside it.
        let mut first = claim("a", "/x/y").unwrap();
        refused();
        let record = Record::new("a", 1, 0, "/b".into(), "/x/y".into(), Spec::default());
        let record = first.keep(record).unwrap();
        refused();
        fs::remove_file(dir.path().join("a").join(CGROUP)).unwrap();
        refused();
        record.remove().unwrap();
        fs::create_dir(dir.path().join("killed")).unwrap();
        fs::write(dir.path().join("killed").join(CGROUP), "").unwrap();
        claim("b", "/x/y").unwrap();
    }
}
