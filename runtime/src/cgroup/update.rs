//! Changing the limits of a living cgroup: all of them or none.
//!
//! What a file held is read before it is written, and written back when a later one is refused.
//! The order is one in which no intermediate state is stricter than both the old and the new
//! limits (see [`order`]). A memory limit below what is in use would make the kernel kill; so the
//! cgroup is first made to give back what it can, and the change is refused when that is not
//! enough.

use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::resources::{self, Write};
use super::{Cgroup, hierarchy, open};
use crate::Error;
use crate::error::Doing;
use crate::oci_spec::runtime::LinuxResources;

/// Changes the limits of a container's cgroup; on error they are as before. Fields that are not
/// set stay; rules for devices cannot be changed.
pub fn update(path: &Path, limits: &LinuxResources) -> Result<(), Error> {
    if limits
        .devices()
        .as_ref()
        .is_some_and(|rules| !rules.is_empty())
    {
        return Err(Error::invalid(
            "linux.resources.devices",
            "cannot be changed later",
        ));
    }
    let writes = resources::writes(limits)?;
    open(path)?.change(writes)
}

/// What `memory.high` of a cgroup is, which [`update`] lowers while it lowers `memory.max`: for
/// [`put_back_high`], should the process that does it be killed then. `None` where there is no such file.
pub fn high(path: &Path) -> Option<String> {
    let high = open(path).ok()?.read(HIGH).ok()?;
    Some(high.trim_end().to_owned())
}

/// Gives a cgroup the `memory.high` that it had. The kernel may reclaim meanwhile.
pub fn put_back_high(path: &Path, high: &str) -> Result<(), Error> {
    let (cgroup, write) = (open(path)?, Write::new(HIGH, high));
    cgroup.write(&write).map_err(|e| cgroup.refused(&write, e))
}

/// Where the kernel is told how much memory is too much, without killing.
const HIGH: &str = "memory.high";

/// Most times that the kernel is asked for memory.
const PRESSES: usize = 16;

/// A value for a file that has another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    write: Write,
    /// What the file holds; `None` when it cannot be read.
    old: Option<String>,
}

impl Cgroup {
    fn change(&self, writes: Vec<Write>) -> Result<(), Error> {
        let mut changes = Vec::new();
        for write in writes {
            let old = match self.look(&write.file) {
                Ok(old) => old,
                Err(e) => {
                    write.forgives(e).map_err(|e| self.refused(&write, e))?;
                    continue;
                }
            };
            if old.as_deref().map(str::trim_end) != Some(write.value.trim_end()) {
                changes.push(Change { write, old });
            }
        }
        changes.sort_by_key(order);
        for (done, change) in changes.iter().enumerate() {
            if let Err(error) = self.apply(change) {
                return Err(self.put_back(&changes[..done], error));
            }
        }
        Ok(())
    }

    /// What a file holds; its controller is switched on when the file is not there.
    fn look(&self, file: &str) -> Result<Option<String>, Errno> {
        let read = || match self.read(file) {
            Err(Errno::NOENT) => Err(Errno::NOENT),
            other => Ok(other.ok()),
        };
        read().or_else(|e| hierarchy::enable(&self.path, file).map_or(Err(e), |()| read()))
    }

    fn apply(&self, change: &Change) -> Result<(), Error> {
        let put = |write: &Write| self.write(write).map_err(|e| self.refused(write, e));
        let Change { write, .. } = change;
        if write.file != "memory.max" || !change.lowers() {
            return put(write);
        }
        let limit = amount(&write.value).unwrap_or(u64::MAX);
        if self.usage()? <= limit {
            return put(write);
        }
        let high = self
            .read(HIGH)
            .doing(|| format!("read {}/{HIGH}", self.path.display()))?;
        let press = |value: &str| put(&Write::new(HIGH, value));
        let usage = match amount(&high).is_none_or(|high| high > limit) {
            true => self.reclaim(limit, || press(&write.value)),
            false => self.usage(),
        };
        let done = usage.and_then(|usage| match usage > limit {
            true => Err(Error::MemoryInUse {
                path: self.path.clone(),
                limit,
                usage,
            }),
            false => put(write),
        });
        press(high.trim_end())?;
        done
    }

    /// Asks for memory above `limit` as long as that brings any: each time the kernel gives up after some
    /// attempts in a row that brought none, which others of that moment may have stood in the way of.
    /// Returns what is in use then.
    fn reclaim(&self, limit: u64, press: impl Fn() -> Result<(), Error>) -> Result<u64, Error> {
        let mut usage = self.usage()?;
        for _ in 0..PRESSES {
            press()?;
            let before = std::mem::replace(&mut usage, self.usage()?);
            if usage <= limit || usage >= before {
                break;
            }
        }
        Ok(usage)
    }

    fn usage(&self) -> Result<u64, Error> {
        let usage = self
            .read("memory.current")
            .doing(|| format!("read {}/memory.current", self.path.display()))?;
        Ok(amount(&usage).unwrap_or(u64::MAX))
    }

    /// Undoes changes, the last first, after `error`.
    fn put_back(&self, changes: &[Change], error: Error) -> Error {
        let failed: Vec<_> = changes
            .iter()
            .rev()
            .filter(|change| {
                let undo = change.undo();
                undo.is_none_or(|undo| self.write(&undo).is_err())
            })
            .map(|change| change.write.file.as_str())
            .collect();
        if failed.is_empty() {
            return error;
        }
        Error::NotPutBack {
            files: failed.join(", "),
            source: Box::new(error),
        }
    }

    fn read(&self, file: &str) -> rustix::io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = openat(&self.dir, file, flags, Mode::empty())?;
        let mut text = Vec::new();
        loop {
            let mut page = [0; 4096];
            match rustix::io::read(&fd, &mut page)? {
                0 => break,
                length => text.extend_from_slice(&page[..length]),
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Change {
    /// The new limit is less than the old; never for what is no plain limit.
    fn lowers(&self) -> bool {
        let old = self.old.as_deref().and_then(amount);
        matches!((old, amount(&self.write.value)), (Some(old), Some(new)) if new < old)
    }

    /// What undoes it; `None` when that cannot be known.
    fn undo(&self) -> Option<Write> {
        let Write { file, value } = &self.write;
        let old = self.old.as_deref()?;
        let Some(key) = key(file, value) else {
            let old = old.trim_end();
            // Nothing is said by an empty line.
            return Some(Write::new(
                file.clone(),
                if old.is_empty() { "\n" } else { old },
            ));
        };
        let line = old.lines().find(|line| line.split(' ').next() == Some(key));
        let unset = match file.as_str() {
            "io.max" => "rbps=max wbps=max riops=max wiops=max",
            "io.latency" => "target=0",
            "rdma.max" => "hca_handle=max hca_object=max",
            "io.weight" => "default",
            _ => return Some(Write::new(file.clone(), line?)),
        };
        let unset = format!("{key} {unset}");
        Some(Write::new(file.clone(), line.unwrap_or(&unset)))
    }
}

/// The first word of a line of a file with one line for each device: that device, or `default`.
fn key<'a>(file: &str, value: &'a str) -> Option<&'a str> {
    let by_device = ["io.", "rdma.", "misc.", "dmem."];
    if !by_device
        .iter()
        .any(|controller| file.starts_with(controller))
    {
        return None;
    }
    match value.split_once(' ') {
        Some((key, _)) => Some(key),
        None => Some("default"),
    }
}

/// A plain limit, `max` being more than any.
fn amount(text: &str) -> Option<u64> {
    match text.trim_end() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// When a change is made: what gives more comes first, so that memory may go to swap that is
/// granted by the same request; then what takes, memory before the swap that it may go to. The
/// burst must stay within the quota at every moment (kernel, `tg_set_bandwidth`).
fn order(change: &Change) -> u8 {
    match (change.write.file.as_str(), change.lowers()) {
        ("cpu.max.burst", true) => 0,
        ("memory.high", true) => 2,
        ("memory.max", true) => 3,
        ("memory.swap.max", true) => 4,
        ("cpu.max.burst", false) => 5,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change(file: &str, old: &str, new: &str) -> Change {
        Change {
            write: Write::new(file, new),
            old: Some(old.into()),
        }
    }

    fn ordered(mut changes: Vec<Change>) -> Vec<String> {
        changes.sort_by_key(order);
        changes
            .into_iter()
            .map(|change| change.write.file)
            .collect()
    }

    #[test]
    fn memory_goes_to_swap_before_swap_is_taken() {
        let less = vec![
            change("memory.swap.max", "500\n", "0"),
            change("memory.max", "max\n", "100"),
            change("cpu.weight", "100\n", "50"),
        ];
        assert_eq!(
            ordered(less),
            ["cpu.weight", "memory.max", "memory.swap.max"]
        );
        let shift = vec![
            change("memory.max", "200\n", "100"),
            change("memory.swap.max", "0\n", "max"),
        ];
        assert_eq!(ordered(shift), ["memory.swap.max", "memory.max"]);
    }

    #[test]
    fn burst_stays_within_the_quota() {
        let less = vec![
            change("cpu.max", "50000 100000\n", "10000 100000"),
            change("cpu.max.burst", "20000\n", "5000"),
        ];
        assert_eq!(ordered(less), ["cpu.max.burst", "cpu.max"]);
        let more = vec![
            change("cpu.max.burst", "5000\n", "20000"),
            change("cpu.max", "10000 100000\n", "50000 100000"),
        ];
        assert_eq!(ordered(more), ["cpu.max", "cpu.max.burst"]);
    }

    #[test]
    fn a_change_is_undone_by_what_was_there() {
        for (change, undo) in [
            (change("memory.max", "max\n", "5"), "max"),
            (change("cpu.max", "max 100000\n", "5 100000"), "max 100000"),
            (change("cpuset.cpus", "\n", "0-1"), "\n"),
            (
                change(
                    "io.max",
                    "8:0 rbps=1 wbps=max riops=max wiops=max\n",
                    "8:0 rbps=2",
                ),
                "8:0 rbps=1 wbps=max riops=max wiops=max",
            ),
            (
                change("io.max", "", "8:1 rbps=2"),
                "8:1 rbps=max wbps=max riops=max wiops=max",
            ),
            (
                change("io.weight", "default 100\n8:0 5\n", "200"),
                "default 100",
            ),
            (
                change("io.weight", "default 100\n", "8:0 50"),
                "8:0 default",
            ),
            (change("misc.max", "res_a 5\n", "res_a 1"), "res_a 5"),
        ] {
            assert_eq!(change.undo().unwrap().value, undo, "{change:?}");
        }
        let unreadable = Change {
            write: Write::new("memory.reclaim", "5"),
            old: None,
        };
        assert_eq!(unreadable.undo(), None);
    }

    proptest! {
        /// Memory and swap together never go below what both old and new allow.
        #[test]
        fn no_state_between_is_stricter_than_both_ends(
            old in (0u64..9, 0u64..9), new in (0u64..9, 0u64..9),
        ) {
            let mut changes = vec![
                change("memory.swap.max", &old.1.to_string(), &new.1.to_string()),
                change("memory.max", &old.0.to_string(), &new.0.to_string()),
            ];
            changes.sort_by_key(order);
            let mut now = old;
            for change in changes {
                let value = amount(&change.write.value).unwrap();
                match change.write.file.as_str() {
                    "memory.max" => now.0 = value,
                    _ => now.1 = value,
                }
                let least = (old.0 + old.1).min(new.0 + new.1);
                prop_assert!(now.0 + now.1 >= least, "{now:?}");
            }
        }
    }
}
