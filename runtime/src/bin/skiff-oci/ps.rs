//! `ps`.

use std::fs;

use anyhow::Result;
use serde_json::json;
use skiff_runtime::cgroup;

use crate::args::{self, Format};
use crate::record::Root;
use crate::sys;

/// Prints the processes of a container.
pub(crate) fn run(root: &Root, args: &args::Ps) -> Result<()> {
    let record = root.load(&args.id)?;
    let pids = cgroup::processes(&record.cgroup)?;
    if args.format == Format::Json {
        return sys::print(&format!("{}\n", json!(pids)));
    }
    let mut text = format!("{:>8} COMMAND\n", "PID");
    for pid in pids {
        // One that has ended meanwhile has no command any more.
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        text.push_str(&format!("{pid:>8} {}\n", command.trim_end()));
    }
    sys::print(&text)
}
