//! Resource limits of the runtime-spec, whose terms are those of cgroup v1, as what to write to
//! which file of cgroup v2.

mod cpu;
mod io;
mod memory;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use rustix::io::Errno;

use crate::Error;
use crate::oci_spec::runtime::LinuxResources;

/// One value for one file of the cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) file: String,
    pub(crate) value: String,
}

impl Write {
    pub(super) fn new(file: impl Into<String>, value: impl ToString) -> Self {
        Self {
            file: file.into(),
            value: value.to_string(),
        }
    }

    /// A kernel without swap accounting gives no swap control and needs none to forbid nothing,
    /// or to forbid what it does not have. Reservations of huge pages are limited since Linux 5.7.
    pub(super) fn forgives(&self, error: Errno) -> Result<(), Errno> {
        let trivial = self.value == "max" || self.value == "0";
        let swap = self.file == "memory.swap.max" && trivial;
        let reservation = self.file.starts_with("hugetlb.") && self.file.ends_with(".rsvd.max");
        if error == Errno::NOENT && (swap || reservation) {
            return Ok(());
        }
        Err(error)
    }
}

/// Everything to be written, in order. Files under `unified` come last and win: nothing else is
/// written to them.
pub(crate) fn writes(resources: &LinuxResources) -> Result<Vec<Write>, Error> {
    let mut writes = Vec::new();
    if let Some(cpu) = resources.cpu() {
        cpu::cpu(cpu, &mut writes)?;
    }
    if let Some(memory) = resources.memory() {
        memory::memory(memory, &mut writes)?;
    }
    if let Some(pids) = resources.pids() {
        writes.push(Write::new(
            "pids.max",
            match pids.limit() {
                ..0 => "max".to_owned(),
                // Room for the container's first process, without which there is no container.
                limit => limit.max(1).to_string(),
            },
        ));
    }
    if let Some(io) = resources.block_io() {
        io::io(io, &mut writes)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        // Without the second, a mapping is granted and the process killed when it uses it.
        for kind in ["max", "rsvd.max"] {
            let file = format!("hugetlb.{}.{kind}", limit.page_size());
            check_file("linux.resources.hugepageLimits", &file)?;
            writes.push(Write::new(file, limit.limit()));
        }
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        let mut value = device.clone();
        for (key, limit) in [
            ("hca_handle", limit.hca_handles()),
            ("hca_object", limit.hca_objects()),
        ] {
            if let Some(limit) = limit {
                value.push_str(&format!(" {key}={limit}"));
            }
        }
        writes.push(Write::new("rdma.max", value));
    }
    if resources.network().as_ref().is_some_and(|network| {
        network.class_id().is_some() || network.priorities().as_ref().is_some_and(|p| !p.is_empty())
    }) {
        return Err(not_in_v2("network"));
    }
    if let Some(files) = resources.unified() {
        writes.retain(|write| !files.contains_key(&write.file));
        unified(files, &mut writes)?;
    }
    Ok(writes)
}

/// Names of files and what to write there, as they are; a value of several lines is one write
/// each. In the order of the names, so that it is always the same.
fn unified(files: &HashMap<String, String>, writes: &mut Vec<Write>) -> Result<(), Error> {
    let mut files: Vec<_> = files.iter().collect();
    files.sort();
    for (file, value) in files {
        check_file("linux.resources.unified", file)?;
        check_core_file(file)?;
        if value.is_empty() {
            writes.push(Write::new(file.clone(), "\n"));
        }
        for line in value.lines() {
            writes.push(Write::new(file.clone(), line));
        }
    }
    Ok(())
}

fn check_file(field: &str, file: &str) -> Result<(), Error> {
    if file.contains('/') || !file.contains('.') || file.starts_with('.') {
        return Err(Error::invalid(
            field,
            format!("{file:?} is not the name of a cgroup file"),
        ));
    }
    Ok(())
}

/// Most files named `cgroup.*` are no limits: they move, stop or kill processes, and not only
/// those of the container.
fn check_core_file(file: &str) -> Result<(), Error> {
    const LIMITS: [&str; 3] = [
        "cgroup.max.depth",
        "cgroup.max.descendants",
        "cgroup.pressure",
    ];
    if file.starts_with("cgroup.") && !LIMITS.contains(&file) {
        return Err(Error::invalid(
            "linux.resources.unified",
            format!("{file:?} is no limit"),
        ));
    }
    Ok(())
}

fn not_in_v2(field: &str) -> Error {
    Error::invalid(
        format!("linux.resources.{field}"),
        "cgroup v2 has nothing of the kind",
    )
}
