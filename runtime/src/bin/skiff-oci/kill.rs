//! `kill`.

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use skiff_runtime::cgroup;

use crate::args;
use crate::record::{Root, Status};
use crate::sys;

/// Sends a signal to the first process, or to all.
pub(crate) fn run(root: &Root, args: &args::Kill) -> Result<()> {
    let signal = parse(&args.signal)?;
    let record = root.load(&args.id)?;
    if args.all {
        if signal == Signal::KILL.as_raw() {
            return Ok(cgroup::kill_all(&record.cgroup)?);
        }
        for pid in cgroup::processes(&record.cgroup)? {
            sys::kill(pid, signal).with_context(|| format!("signal process {pid}"))?;
        }
        return Ok(());
    }
    let Some(pidfd) = record.pidfd()? else {
        bail!(
            "container {} is {}: not running",
            args.id,
            Status::Stopped.name()
        );
    };
    sys::pidfd_send_signal(&pidfd, signal)
        .with_context(|| format!("send signal {signal} to container {}", args.id))
}

/// `9`, `KILL`, `SIGKILL`, `RTMIN+3`.
fn parse(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(number) = name.parse::<i32>() {
        if (0..=64).contains(&number) {
            return Ok(number);
        }
        bail!("signal {text:?} is not between 0 and 64");
    }
    let offset = |rest: &str| {
        if rest.is_empty() {
            Ok(0)
        } else {
            rest.parse::<i32>()
        }
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return real_time(
            34 + offset(rest).with_context(|| format!("signal {text:?}"))?,
            text,
        );
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return real_time(
            64 + offset(rest).with_context(|| format!("signal {text:?}"))?,
            text,
        );
    }
    let found = NAMES.iter().position(|known| *known == name);
    found
        .map(|at| at as i32 + 1)
        .with_context(|| format!("signal {text:?} is unknown"))
}

/// Signals of `RTMIN` and above count from 34, the first that glibc leaves to programs.
fn real_time(number: i32, text: &str) -> Result<i32> {
    if (34..=64).contains(&number) {
        Ok(number)
    } else {
        bail!("signal {text:?} is unknown")
    }
}

/// Names of signals 1 to 31.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_number_and_name() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("0", 0),
            ("SYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("RTMAX", 64),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in ["", "65", "-1", "NOPE", "RTMIN+99", "RTMAX+1", "RTMINx"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
