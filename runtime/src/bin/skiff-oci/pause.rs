//! `pause` and `resume`.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use skiff_runtime::cgroup;

use crate::record::{Root, Status};

/// Longest that processes may take to stop; one in an uninterruptible wait may need it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Freezes or thaws a container, and waits until that is done.
pub(crate) fn run(root: &Root, id: &str, pause: bool) -> Result<()> {
    let record = root.load(id)?;
    let status = record.status()?;
    let fits = if pause {
        matches!(status, Status::Running | Status::Created)
    } else {
        status == Status::Paused
    };
    if !fits {
        bail!("container {id} is {}", status.name());
    }
    cgroup::freeze(&record.cgroup, pause)?;
    let begin = Instant::now();
    while cgroup::is_frozen(&record.cgroup)? != pause {
        if begin.elapsed() > PATIENCE {
            cgroup::freeze(&record.cgroup, !pause)?;
            bail!("container {id} did not change in {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
