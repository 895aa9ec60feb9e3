//! What a container's cgroup says of its limits, in the terms of a request.
//!
//! A value that still is what was made of the request's is reported as the request had it: several
//! shares make one weight, and the kernel rounds sizes to pages.

use super::SWAP;
use super::weight::{shares_of_weight, weight_of_shares};
use crate::cri::LinuxContainerResources;

/// `cpu.weight` of a cgroup that nobody has given one.
const USUAL_WEIGHT: u64 = 100;
/// The largest page that any kernel rounds sizes to, in bytes.
const LARGEST_PAGE: i64 = 64 * 1024;

/// The limits that hold: those asked for, corrected by the cgroup's files. `read` gives the
/// content of one, `None` when there is no such file; what has no file is as it was asked for.
pub fn report_resources(
    asked: &LinuxContainerResources,
    read: impl Fn(&str) -> Option<String>,
) -> LinuxContainerResources {
    let mut now = asked.clone();
    let read = |file: &str| read(file).map(|text| text.trim_end().to_owned());
    if let Some(weight) = read("cpu.weight").and_then(|text| text.parse().ok()) {
        now.cpu_shares = shares(asked.cpu_shares, weight);
    }
    if let Some(max) = read("cpu.max") {
        (now.cpu_quota, now.cpu_period) = quota(asked, &max);
    }
    if let Some(max) = read("memory.max") {
        now.memory_limit_in_bytes = bytes(asked.memory_limit_in_bytes, &max, 0);
    }
    let swap = asked.memory_swap_limit_in_bytes;
    if swap != 0
        && !asked.unified.contains_key(SWAP)
        && let Some(max) = read(SWAP)
    {
        now.memory_swap_limit_in_bytes = bytes(swap, &max, now.memory_limit_in_bytes.max(0));
    }
    for (list, file) in [
        (&mut now.cpuset_cpus, "cpuset.cpus"),
        (&mut now.cpuset_mems, "cpuset.mems"),
    ] {
        if !list.is_empty()
            && let Some(is) = read(file)
            && ranges(&is) != ranges(list)
        {
            *list = is;
        }
    }
    for limit in &mut now.hugepage_limits {
        let max = read(&format!("hugetlb.{}.max", limit.page_size));
        if let Some(max) = max.and_then(|text| text.parse().ok()) {
            limit.limit = max;
        }
    }
    for (file, value) in &mut now.unified {
        if let Some(is) = read(file) {
            *value = is;
        }
    }
    now
}

fn shares(asked: i64, weight: u64) -> i64 {
    let same = match u64::try_from(asked) {
        Ok(0) | Err(_) => weight == USUAL_WEIGHT,
        Ok(asked) => weight_of_shares(asked) == weight,
    };
    if same {
        return asked;
    }
    i64::try_from(shares_of_weight(weight)).unwrap_or(asked)
}

fn quota(asked: &LinuxContainerResources, max: &str) -> (i64, i64) {
    let (quota, period) = max.split_once(' ').unwrap_or((max, ""));
    match (quota.parse(), period.parse()) {
        (Ok(quota), Ok(period)) => (quota, period),
        // Unlimited: a period has no meaning then, and is not always written.
        _ => (unlimited(asked.cpu_quota), asked.cpu_period),
    }
}

/// A size that the kernel holds for one that was asked for, with what that is counted beside.
fn bytes(asked: i64, max: &str, beside: i64) -> i64 {
    let Ok(bytes) = max.parse::<i64>() else {
        return unlimited(asked);
    };
    let bytes = bytes.saturating_add(beside);
    if (0..LARGEST_PAGE).contains(&(asked - bytes)) {
        return asked;
    }
    bytes
}

/// -1 unless the request had no limit either.
fn unlimited(asked: i64) -> i64 {
    if asked > 0 { -1 } else { asked }
}

/// The numbers in a list such as `0-3,7`, as ranges from the first to the last of each: in order, and with
/// others between them. What is no range is left out.
fn ranges(list: &str) -> Vec<(u32, u32)> {
    let parts = list.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last).then_some((first, last))
    });
    let mut parts: Vec<(u32, u32)> = parts.collect();
    parts.sort_unstable();
    parts.dedup_by(|next, before| {
        let joined = next.0 <= before.1.saturating_add(1);
        if joined {
            before.1 = before.1.max(next.1);
        }
        joined
    });
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::HugepageLimit;

    fn asked() -> LinuxContainerResources {
        LinuxContainerResources {
            cpu_shares: 512,
            cpu_quota: 50_000,
            cpu_period: 100_000,
            memory_limit_in_bytes: 1_000_000,
            memory_swap_limit_in_bytes: 1_500_000,
            cpuset_cpus: "0,1,2".into(),
            hugepage_limits: vec![HugepageLimit {
                page_size: "2MB".into(),
                limit: 0,
            }],
            unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        }
    }

    fn files(file: &str) -> Option<String> {
        let text = match file {
            "cpu.weight" => "59\n",
            "cpu.max" => "50000 100000\n",
            "memory.max" => "999424\n",
            "memory.swap.max" => "499712\n",
            "cpuset.cpus" => "0-2\n",
            "hugetlb.2MB.max" => "0\n",
            "memory.oom.group" => "1\n",
            _ => return None,
        };
        Some(text.into())
    }

    #[test]
    fn lists_are_equal_by_their_numbers_however_many_those_are() {
        assert_eq!(ranges("7,0-2,3,9-8,x"), [(0, 3), (7, 7)]);
        assert_eq!(ranges("1-5,2-3"), ranges("1,2,3-5"));
        assert_eq!(ranges("0-4294967295,5"), [(0, u32::MAX)]);
        assert_eq!(ranges("\n"), []);
    }

    #[test]
    fn what_nobody_changed_is_as_it_was_asked_for() {
        assert_eq!(report_resources(&asked(), files), asked());
        let none = LinuxContainerResources::default();
        let usual = |file: &str| match file {
            "cpu.weight" => Some("100\n".into()),
            "cpu.max" => Some("max 100000\n".into()),
            "memory.max" => Some("max\n".into()),
            _ => None,
        };
        assert_eq!(report_resources(&none, usual), none);
        assert_eq!(report_resources(&asked(), |_| None), asked());
    }

    #[test]
    fn what_somebody_changed_is_as_it_is() {
        let changed = |file: &str| match file {
            "cpu.weight" => Some("100\n".into()),
            "cpu.max" => Some("max 100000\n".into()),
            "memory.max" => Some("2097152\n".into()),
            "memory.swap.max" => Some("max\n".into()),
            "cpuset.cpus" => Some("1\n".into()),
            "memory.oom.group" => Some("0\n".into()),
            _ => None,
        };
        let now = report_resources(&asked(), changed);
        assert_eq!(now.cpu_shares, 1024);
        assert_eq!((now.cpu_quota, now.cpu_period), (-1, 100_000));
        assert_eq!(now.memory_limit_in_bytes, 2_097_152);
        assert_eq!(now.memory_swap_limit_in_bytes, -1);
        assert_eq!(now.cpuset_cpus, "1");
        assert_eq!(now.unified["memory.oom.group"], "0");
    }
}
