//! What the kernel counts of a cgroup.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// Processor time that its processes have used, also those that are gone.
pub fn processor_time(cgroup: &Path) -> anyhow::Result<Duration> {
    let path = cgroup.join("cpu.stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
    let mut lines = text.lines();
    let usage = lines.find_map(|line| line.strip_prefix("usage_usec "));
    let usage = usage.with_context(|| format!("{path:?} tells no usage"))?;
    Ok(Duration::from_micros(usage.trim().parse()?))
}
