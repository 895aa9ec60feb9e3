//! `start`.

use std::fs;

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use skiff_runtime::{Init, Progress, hook};

use crate::log;
use crate::record::{Record, Root, Status, short};

/// Lets a created container run its command.
pub(crate) fn run(root: &Root, id: &str) -> Result<()> {
    let record = root.load(id)?;
    let status = record.status()?;
    if status != Status::Created {
        bail!("container {id} is {}, not created", status.name());
    }
    open_gate(&record).with_context(|| format!("start container {id}"))?;
    let hooks = record
        .spec
        .hooks()
        .as_ref()
        .and_then(|hooks| hooks.poststart().clone());
    let state = record.oci_state(Status::Running)?;
    if let Err(e) = hook::run("poststart", &hooks.unwrap_or_default(), &state) {
        log::line(&format!("warning: {e}"));
    }
    Ok(())
}

fn open_gate(record: &Record) -> Result<()> {
    let pidfd = record.pidfd()?.context("it has ended")?;
    let path = record.gate();
    let (_dir, name) = short(&path)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(&name)?)
        .with_context(|| format!("connect to {}", path.display()))?;
    // Whoever removes it is the one who starts.
    fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    let mut init = Init::attach(record.pid, pidfd, socket);
    init.start()?;
    match init.wait()? {
        Progress::Running { .. } => Ok(()),
        Progress::Failed(failure) => bail!(failure),
        other => bail!("unexpected {other:?} of a starting container"),
    }
}
