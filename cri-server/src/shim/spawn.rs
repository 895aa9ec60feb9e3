//! Starts one shim.
//!
//! std's `Command` without `pre_exec` is a posix_spawn, whose price does not grow with the
//! daemon's memory.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::binary::{Binary, NAME};
use super::pool::Kind;
use super::process::Process;
use super::{Client, Shim, ShimError};
use crate::layout;

/// How a shim's C library hands out memory ("Memory Allocation Tunables" of glibc's manual): what is given
/// back joins its neighbours at once, instead of being kept for the next request of that size. What a request takes
/// then lies in few pages, and each page that is written costs a fault when a child was cloned since.
const MALLOC: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
);

/// Starts shims; a test puts its own in the place of the real one.
pub trait Spawn: Send + Sync {
    /// Starts a shim for a kind of pods with this run directory, which exists. The daemon's end of
    /// the channel is returned with the process.
    fn spawn(&self, run_dir: &Path, kind: Kind) -> io::Result<(OwnedFd, Process)>;
}

impl Spawn for Binary {
    fn spawn(&self, run_dir: &Path, kind: Kind) -> io::Result<(OwnedFd, Process)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let child = Command::new(self.path())
            .arg0(NAME)
            .arg("--run-dir")
            .arg(run_dir)
            .args((kind == Kind::UserNamespace).then_some("--user-namespace"))
            .env_clear()
            .env(MALLOC.0, MALLOC.1)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(File::create(layout::shim_log(run_dir))?)
            // An interrupt typed at the daemon's terminal is not for the pods.
            .process_group(0)
            .spawn()?;
        let process = Process::of_child(child)?;
        // In time: it starts nothing before it is adopted.
        self.files.give(process.id.pid)?;
        Ok((ours, process))
    }
}

/// Starts a shim called `id` for a kind of pods with `run_dir`, which is made.
pub fn start(spawner: &dyn Spawn, id: &str, run_dir: &Path, kind: Kind) -> Result<Shim, ShimError> {
    let failed = |source| ShimError::Spawn {
        shim: id.into(),
        source,
    };
    DirBuilder::new()
        .mode(0o700)
        .create(run_dir)
        .map_err(failed)?;
    let (socket, process) = spawner.spawn(run_dir, kind).map_err(|e| {
        let _ = std::fs::remove_dir_all(run_dir);
        failed(e)
    })?;
    let (client, events) = Client::new(id, socket)?;
    Ok(Shim {
        id: id.into(),
        run_dir: run_dir.into(),
        client,
        events,
        process,
    })
}
