//! Processes of the node, read from /proc.

use std::fs;

/// The ids of the processes whose command name, as the kernel keeps it (15 bytes), is `name`.
pub fn named(name: &str) -> Vec<u32> {
    let kept = &name[..name.len().min(15)];
    all()
        .into_iter()
        .filter(|pid| command(*pid).as_deref() == Some(kept))
        .collect()
}

/// The ids of the processes whose command line begins with a program of that name: also of those
/// executed from a memfd, whose command name is another.
pub fn running(program: &str) -> Vec<u32> {
    let begins = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let first = line.split(|byte| *byte == 0).next()?;
        let name = first.rsplit(|byte| *byte == b'/').next()?;
        Some(name == program.as_bytes())
    };
    all()
        .into_iter()
        .filter(|pid| begins(pid) == Some(true))
        .collect()
}

/// The ids of all processes that are not kernel threads.
pub fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok())
        .collect()
}

/// The command name of a process.
pub fn command(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .ok()
        .map(|name| name.trim_end().to_owned())
}

/// A field of /proc/PID/status or smaps_rollup that is in kB, in bytes.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line[name.len()..]
        .trim_start_matches(':')
        .trim()
        .strip_suffix(" kB")?
        .trim()
        .parse()
        .ok()?;
    Some(kib << 10)
}

/// Bytes that are resident, shared ones too.
pub fn resident(pid: u32) -> Option<u64> {
    field(&format!("/proc/{pid}/status"), "VmRSS")
}

/// The most that was ever resident, in bytes.
pub fn peak_resident(pid: u32) -> Option<u64> {
    field(&format!("/proc/{pid}/status"), "VmHWM")
}

/// Forgets the peak: from here it grows anew from what is resident now.
pub fn reset_peak(pid: u32) -> std::io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// Bytes that would be free if this process alone went: what it shares with no other.
pub fn unique(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    Some(field(&path, "Private_Clean")? + field(&path, "Private_Dirty")?)
}

/// Resident bytes, of what is shared the process's share.
pub fn proportional(pid: u32) -> Option<u64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// The arguments of a process, with blanks between them.
pub fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line)
        .trim_end_matches('\0')
        .replace('\0', " ")
}

/// The parent of a process.
pub fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("PPid:"))?
        .trim()
        .parse()
        .ok()
}

/// The ids of the processes whose last argument is this one.
pub fn with_last_argument(argument: &str) -> Vec<u32> {
    let end = format!(" {argument}");
    all()
        .into_iter()
        .filter(|pid| command_line(*pid).ends_with(&end))
        .collect()
}

/// SIGKILL.
pub fn kill(pid: u32) -> anyhow::Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| anyhow::anyhow!("no process id"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    Ok(())
}
