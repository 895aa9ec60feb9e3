//! `delete`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use skiff_runtime::{cgroup, hook};

use crate::args;
use crate::log;
use crate::record::{Record, Root, Status};

/// Longest that processes killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Deletes a stopped container, or with force any.
pub(crate) fn run(root: &Root, args: &args::Delete) -> Result<()> {
    let Some(record) = root.find(&args.id)? else {
        if args.force {
            return root.sweep(&args.id);
        }
        bail!("container {} does not exist", args.id);
    };
    let status = record.status()?;
    if !args.force && status != Status::Stopped {
        bail!(
            "container {} is {}: stop it first, or use --force",
            args.id,
            status.name()
        );
    }
    delete(record)
}

/// Kills what is left of a container and forgets it. The record goes last: until then the
/// delete can be repeated.
pub(crate) fn delete(record: Record) -> Result<()> {
    cgroup::kill_all(&record.cgroup)?;
    if let Some(pidfd) = record.pidfd()? {
        let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    }
    remove_cgroup(&record.cgroup)?;
    let hooks = record
        .spec
        .hooks()
        .as_ref()
        .and_then(|hooks| hooks.poststop().clone());
    for poststop in hooks.unwrap_or_default() {
        // A failed hook is told, and the rest goes on: so says the runtime-spec.
        if let Err(e) = hook::run("poststop", &[poststop], &record.oci_state(Status::Stopped)?) {
            log::line(&format!("warning: {e}"));
        }
    }
    record.remove()
}

/// Removes a cgroup whose processes have been killed, and waits for them to be gone.
pub(crate) fn remove_cgroup(path: &Path) -> Result<()> {
    let begin = Instant::now();
    while !cgroup::remove(path)? {
        if begin.elapsed() > PATIENCE {
            bail!(
                "cgroup {} still has processes {PATIENCE:?} after they were killed",
                path.display()
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
