//! Keeping this binary out of containers' reach.
//!
//! A container whose command is `#!/proc/self/exe` gets this program run as its process, and
//! could then open /proc/<pid>/exe and write to the file on the host (CVE-2019-5736). So a
//! program that is about to enter a container first executes itself through a read-only
//! detached mount of its own file: by that path there is nothing to be written.

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::fs::StatVfsMountFlags;

const SELF: &str = "/proc/self/exe";

/// Executes this program anew through a read-only mount, unless that has happened.
pub(crate) fn reexec() -> Result<()> {
    let own = rustix::fs::statvfs(SELF).context("stat the file system of this program")?;
    if own.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let tree = skiff_runtime::read_only_copy(Path::new(SELF))?;
    let path = format!("/proc/self/fd/{}", tree.as_raw_fd());
    let mut args = std::env::args_os();
    let mut command = Command::new(&path);
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    let error = command.args(args).exec();
    bail!("execute this program through a read-only mount: {error}")
}
