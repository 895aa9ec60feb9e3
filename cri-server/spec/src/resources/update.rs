//! A change of a container's limits: only what the request sets is changed.
//!
//! A field that is not set (0, empty) stays as it was. Where one file of the cgroup holds two
//! fields, or one field is counted with another, what stays is written again with what changes. A
//! typed field goes before the key of `unified` that an earlier request had for the same file; in
//! one request it is the other way round.

use oci_spec::runtime::LinuxResources;

use super::{SWAP, invalid, limits, swap_max, unified};
use crate::SpecError;
use crate::cri::LinuxContainerResources;
use crate::input::HostFeatures;

/// What is to be written for a change, and what the container then has altogether, in the terms
/// of a request.
pub fn update_resources(
    asked: &LinuxContainerResources,
    change: &LinuxContainerResources,
    host: &HostFeatures,
) -> Result<(LinuxResources, LinuxContainerResources), SpecError> {
    let merged = merge(asked, change);
    if !(-1000..=1000).contains(&change.oom_score_adj) {
        let reason = format!("{} is not from -1000 to 1000", change.oom_score_adj);
        return Err(invalid("oom_score_adj", reason));
    }
    let mut write = change.clone();
    if change.cpu_quota != 0 || change.cpu_period != 0 {
        write.cpu_period = merged.cpu_period;
        write.cpu_quota = if merged.cpu_quota == 0 {
            -1
        } else {
            merged.cpu_quota
        };
    }
    let mut unified = unified(change, host)?;
    let swap_changes = change.memory_swap_limit_in_bytes != 0
        || change.memory_limit_in_bytes != 0 && merged.memory_swap_limit_in_bytes != 0;
    if swap_changes && !merged.unified.contains_key(SWAP) {
        unified.extend(swap_max(&merged, host)?.map(|value| (SWAP.to_owned(), value)));
    }
    Ok((limits(&write, unified, Vec::new(), host)?, merged))
}

/// What a container has after a change.
fn merge(
    asked: &LinuxContainerResources,
    change: &LinuxContainerResources,
) -> LinuxContainerResources {
    let mut merged = asked.clone();
    let numbers = [
        (&mut merged.cpu_shares, change.cpu_shares, "cpu.weight"),
        (&mut merged.cpu_quota, change.cpu_quota, "cpu.max"),
        (&mut merged.cpu_period, change.cpu_period, "cpu.max"),
        (
            &mut merged.memory_limit_in_bytes,
            change.memory_limit_in_bytes,
            "memory.max",
        ),
        (
            &mut merged.memory_swap_limit_in_bytes,
            change.memory_swap_limit_in_bytes,
            SWAP,
        ),
        (&mut merged.oom_score_adj, change.oom_score_adj, ""),
    ];
    for (field, value, file) in numbers {
        if value != 0 {
            *field = value;
            merged.unified.remove(file);
        }
    }
    let lists = [
        (&mut merged.cpuset_cpus, &change.cpuset_cpus, "cpuset.cpus"),
        (&mut merged.cpuset_mems, &change.cpuset_mems, "cpuset.mems"),
    ];
    for (field, value, file) in lists {
        if !value.is_empty() {
            field.clone_from(value);
            merged.unified.remove(file);
        }
    }
    for limit in &change.hugepage_limits {
        merged
            .unified
            .remove(&format!("hugetlb.{}.max", limit.page_size));
        merged
            .hugepage_limits
            .retain(|known| known.page_size != limit.page_size);
        merged.hugepage_limits.push(limit.clone());
    }
    merged.unified.extend(change.unified.clone());
    merged
}
