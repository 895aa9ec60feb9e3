//! Limits of the container's cgroup.
//!
//! A key of `unified` goes before the typed field for the same file, as the CRI says. Swap is
//! always written as `memory.swap.max`: a container gets none unless the request gives some.

mod report;
mod update;
mod weight;

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxCpuBuilder, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxHugepageLimitBuilder,
    LinuxMemoryBuilder, LinuxResources, LinuxResourcesBuilder,
};

use crate::SpecError;
use crate::cri::{HugepageLimit, LinuxContainerResources};
use crate::input::HostFeatures;

pub use report::report_resources;
pub use update::update_resources;

const SWAP: &str = "memory.swap.max";

/// The limits of a new container, with the device rules beside them.
pub(crate) fn resources(
    request: Option<&LinuxContainerResources>,
    rules: Vec<LinuxDeviceCgroup>,
    host: &HostFeatures,
) -> Result<LinuxResources, SpecError> {
    let none = LinuxContainerResources::default();
    let request = request.unwrap_or(&none);
    let mut unified = unified(request, host)?;
    if !request.unified.contains_key(SWAP)
        && let Some(value) = swap_max(request, host)?
    {
        unified.insert(SWAP.to_owned(), value);
    }
    limits(request, unified, rules, host)
}

/// The limits of a request, `unified` and swap excepted, which come checked.
fn limits(
    request: &LinuxContainerResources,
    unified: HashMap<String, String>,
    rules: Vec<LinuxDeviceCgroup>,
    host: &HostFeatures,
) -> Result<LinuxResources, SpecError> {
    let mut builder = LinuxResourcesBuilder::default();
    if !rules.is_empty() {
        builder = builder.devices(rules);
    }
    let (cpu, any_cpu) = cpu(request, &unified)?;
    if any_cpu {
        builder = builder.cpu(cpu.build()?);
    }
    let limit = at_least("memory_limit_in_bytes", request.memory_limit_in_bytes, -1)?;
    if limit != 0 && !unified.contains_key("memory.max") {
        let memory = LinuxMemoryBuilder::default().limit(limit);
        builder = builder.memory(memory.build()?);
    }
    let hugepages = hugepages(&request.hugepage_limits, host)?;
    if !hugepages.is_empty() {
        builder = builder.hugepage_limits(hugepages);
    }
    if !unified.is_empty() {
        builder = builder.unified(unified);
    }
    Ok(builder.build()?)
}

fn cpu(
    request: &LinuxContainerResources,
    unified: &HashMap<String, String>,
) -> Result<(LinuxCpuBuilder, bool), SpecError> {
    let mut cpu = LinuxCpuBuilder::default();
    let mut any = false;
    let shares = at_least("cpu_shares", request.cpu_shares, 0)?;
    if shares != 0 && !unified.contains_key("cpu.weight") {
        (cpu, any) = (cpu.shares(shares.unsigned_abs()), true);
    }
    let period = at_least("cpu_period", request.cpu_period, 0)?;
    let quota = at_least("cpu_quota", request.cpu_quota, -1)?;
    if !unified.contains_key("cpu.max") {
        if period != 0 {
            (cpu, any) = (cpu.period(period.unsigned_abs()), true);
        }
        if quota != 0 {
            (cpu, any) = (cpu.quota(quota), true);
        }
    }
    for (list, field, file) in [
        (&request.cpuset_cpus, "cpuset_cpus", "cpuset.cpus"),
        (&request.cpuset_mems, "cpuset_mems", "cpuset.mems"),
    ] {
        if list.is_empty() || unified.contains_key(file) {
            continue;
        }
        if list
            .chars()
            .any(|c| !(c.is_ascii_digit() || "-,".contains(c)))
        {
            return Err(invalid(
                field,
                format!("{list:?} is not a list such as 0-3,7"),
            ));
        }
        any = true;
        cpu = if file == "cpuset.cpus" {
            cpu.cpus(list.as_str())
        } else {
            cpu.mems(list.as_str())
        };
    }
    Ok((cpu, any))
}

fn unified(
    request: &LinuxContainerResources,
    host: &HostFeatures,
) -> Result<HashMap<String, String>, SpecError> {
    for (key, value) in &request.unified {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !key.contains('.') || key.starts_with('.') || !key.chars().all(plain) {
            return Err(invalid(
                "unified",
                format!("{key:?} is not the name of a cgroup file"),
            ));
        }
        if value.contains('\0') {
            return Err(invalid(
                "unified",
                format!("NUL byte in the value of {key:?}"),
            ));
        }
    }
    let mut unified: HashMap<_, _> = request.unified.clone().into_iter().collect();
    // A kernel that does not count swap has none to give; so no swap is what there is.
    if !host.swap_accounting
        && unified
            .remove(SWAP)
            .is_some_and(|value| value.trim() != "0")
    {
        return Err(no_swap(&format!("unified[{SWAP:?}]")));
    }
    Ok(unified)
}

/// Swap beside memory, from `memory_swap_limit_in_bytes`, which counts both together, as cgroup
/// v1 did. Nothing asked for is none given. `None`: the kernel does not count swap.
fn swap_max(
    request: &LinuxContainerResources,
    host: &HostFeatures,
) -> Result<Option<String>, SpecError> {
    let field = "memory_swap_limit_in_bytes";
    let both = at_least(field, request.memory_swap_limit_in_bytes, -1)?;
    let memory = request.memory_limit_in_bytes;
    let swap = match both {
        0 => "0".to_owned(),
        -1 => "max".to_owned(),
        _ if memory <= 0 => {
            return Err(invalid(
                field,
                "set without memory_limit_in_bytes".to_owned(),
            ));
        }
        _ if both < memory => {
            let reason = format!("{both} is less than the memory limit");
            return Err(invalid(field, reason));
        }
        _ => (both - memory).to_string(),
    };
    match (host.swap_accounting, swap.as_str()) {
        (true, _) => Ok(Some(swap)),
        (false, "0") => Ok(None),
        (false, _) => Err(no_swap(field)),
    }
}

fn no_swap(field: &str) -> SpecError {
    let reason = "the kernel does not count swap; it needs CONFIG_SWAP and no swapaccount=0";
    SpecError::unsupported(format!("linux.resources.{field}"), reason)
}

/// A kubelet names every page size with limit 0 unless the pod asks for some; a host without the
/// controller need not be told.
fn hugepages(
    limits: &[HugepageLimit],
    host: &HostFeatures,
) -> Result<Vec<LinuxHugepageLimit>, SpecError> {
    let mut list = Vec::new();
    for (i, limit) in limits.iter().enumerate() {
        let field = format!("linux.resources.hugepage_limits[{i}]");
        if !host.hugetlb {
            if limit.limit > 0 {
                return Err(SpecError::unsupported(
                    field,
                    "cgroups lack the hugetlb controller",
                ));
            }
            continue;
        }
        let digits = limit.page_size.trim_end_matches(['K', 'M', 'G', 'B']);
        let unit = &limit.page_size[digits.len()..];
        if digits.parse::<u32>().is_err() || !["KB", "MB", "GB"].contains(&unit) {
            let reason = format!("{:?} is not a page size such as 2MB", limit.page_size);
            return Err(SpecError::invalid(field, reason));
        }
        let bytes = i64::try_from(limit.limit)
            .map_err(|_| SpecError::invalid(field, format!("{} is too large", limit.limit)))?;
        let entry = LinuxHugepageLimitBuilder::default().page_size(limit.page_size.as_str());
        list.push(entry.limit(bytes).build()?);
    }
    Ok(list)
}

fn at_least(field: &str, value: i64, least: i64) -> Result<i64, SpecError> {
    if value < least {
        return Err(invalid(field, format!("{value} is less than {least}")));
    }
    Ok(value)
}

fn invalid(field: &str, reason: String) -> SpecError {
    SpecError::invalid(format!("linux.resources.{field}"), reason)
}
