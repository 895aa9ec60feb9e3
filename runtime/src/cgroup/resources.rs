//! Resource limits of the runtime-spec, whose terms are those of cgroup v1, as what to write to
//! which file of cgroup v2.

use std::collections::HashMap;

use rustix::io::Errno;

use crate::Error;
use crate::oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice,
};

/// One value for one file of the cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) file: String,
    pub(crate) value: String,
}

impl Write {
    fn new(file: impl Into<String>, value: impl ToString) -> Self {
        Self {
            file: file.into(),
            value: value.to_string(),
        }
    }

    /// A kernel without swap accounting gives no swap control and needs none to forbid nothing,
    /// or to forbid what it does not have.
    pub(super) fn forgives(&self, error: Errno) -> Result<(), Errno> {
        let trivial = self.value == "max" || self.value == "0";
        if error == Errno::NOENT && self.file == "memory.swap.max" && trivial {
            return Ok(());
        }
        Err(error)
    }
}

/// Everything to be written, in order. Files under `unified` come last and win.
pub(crate) fn writes(resources: &LinuxResources) -> Result<Vec<Write>, Error> {
    let mut writes = Vec::new();
    if let Some(cpu) = resources.cpu() {
        self::cpu(cpu, &mut writes)?;
    }
    if let Some(memory) = resources.memory() {
        self::memory(memory, &mut writes)?;
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
        self::io(io, &mut writes)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.max", limit.page_size());
        check_file("linux.resources.hugepageLimits", &file)?;
        writes.push(Write::new(file, limit.limit()));
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
    unified(resources.unified().as_ref(), &mut writes)?;
    Ok(writes)
}

fn cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) -> Result<(), Error> {
    let realtime = cpu.realtime_runtime().unwrap_or(0) != 0;
    if realtime || cpu.realtime_period().unwrap_or(0) != 0 {
        return Err(not_in_v2("cpu.realtimeRuntime"));
    }
    if let Some(idle) = cpu.idle() {
        writes.push(Write::new("cpu.idle", idle));
    }
    if let Some(weight) = cpu.shares().and_then(weight_of_shares) {
        writes.push(Write::new("cpu.weight", weight));
    }
    let period = cpu.period().filter(|period| *period != 0);
    let quota = match cpu.quota() {
        Some(quota @ 1..) => Some(quota.to_string()),
        Some(..0) => Some("max".to_owned()),
        // Zero is how callers spell "not set"; a period alone only has a meaning for the kernel
        // next to a quota, and unlimited is where every cgroup starts.
        Some(0) | None => None,
    };
    if let Some(quota) = quota {
        let period = period
            .map(|period| format!(" {period}"))
            .unwrap_or_default();
        writes.push(Write::new("cpu.max", quota + &period));
    }
    if let Some(burst) = cpu.burst() {
        writes.push(Write::new("cpu.max.burst", burst));
    }
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            writes.push(Write::new(file, list));
        }
    }
    Ok(())
}

/// `cpu.shares` (2 to 262144, by default 1024) as `cpu.weight` (1 to 10000, by default 100),
/// such that least, default and most meet: 10 to the power of a quadratic function of the
/// binary logarithm, the conversion that Kubernetes and the OCI runtimes agreed on in 2025.
fn weight_of_shares(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1..=2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            Some(10f64.powf(exponent).ceil() as u64)
        }
    }
}

fn memory(memory: &LinuxMemory, writes: &mut Vec<Write>) -> Result<(), Error> {
    for (field, asked) in [
        ("memory.swappiness", memory.swappiness().is_some()),
        ("memory.kernelTCP", memory.kernel_tcp().unwrap_or(0) != 0),
        (
            "memory.disableOOMKiller",
            memory.disable_oom_killer() == Some(true),
        ),
        ("memory.useHierarchy", memory.use_hierarchy() == Some(false)),
        (
            "memory.checkBeforeUpdate",
            memory.check_before_update() == Some(true),
        ),
    ] {
        if asked {
            return Err(not_in_v2(field));
        }
    }
    let limit = amount("memory.limit", memory.limit())?;
    if let Some(limit) = limit {
        writes.push(Write::new("memory.max", limit));
    }
    match (amount("memory.swap", memory.swap())?, limit) {
        (Some(Amount::Max), _) => writes.push(Write::new("memory.swap.max", Amount::Max)),
        // The runtime-spec counts memory and swap together.
        (Some(Amount::Bytes(both)), Some(Amount::Bytes(limit))) => {
            let swap = both
                .checked_sub(limit)
                .filter(|swap| *swap >= 0)
                .ok_or_else(|| {
                    Error::invalid(
                        "linux.resources.memory.swap",
                        format!("{both} for memory and swap is less than the {limit} for memory"),
                    )
                })?;
            writes.push(Write::new("memory.swap.max", swap));
        }
        (Some(Amount::Bytes(_)), _) => {
            return Err(Error::invalid(
                "linux.resources.memory.swap",
                "a limit of memory and swap needs one of memory beside it",
            ));
        }
        (None, _) => {}
    }
    if let Some(low) = amount("memory.reservation", memory.reservation())? {
        writes.push(Write::new("memory.low", low));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amount {
    Max,
    Bytes(i64),
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

/// -1 is unlimited, 0 not set.
fn amount(field: &str, value: Option<i64>) -> Result<Option<Amount>, Error> {
    match value {
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some(Amount::Max)),
        Some(bytes @ 1..) => Ok(Some(Amount::Bytes(bytes))),
        Some(bytes) => Err(Error::invalid(
            format!("linux.resources.{field}"),
            format!("{bytes} bytes"),
        )),
    }
}

fn io(io: &LinuxBlockIo, writes: &mut Vec<Write>) -> Result<(), Error> {
    let devices = io.weight_device().as_deref().unwrap_or_default();
    if io.leaf_weight().is_some() || devices.iter().any(|d| d.leaf_weight().is_some()) {
        return Err(not_in_v2("blockIO.leafWeight"));
    }
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        writes.push(Write::new("io.weight", io_weight(weight)));
    }
    for device in devices {
        if let Some(weight) = device.weight() {
            let (major, minor) = (device.major(), device.minor());
            let value = format!("{major}:{minor} {}", io_weight(weight));
            writes.push(Write::new("io.weight", value));
        }
    }
    for (key, devices) in [
        ("rbps", io.throttle_read_bps_device()),
        ("wbps", io.throttle_write_bps_device()),
        ("riops", io.throttle_read_iops_device()),
        ("wiops", io.throttle_write_iops_device()),
    ] {
        for device in devices.iter().flatten() {
            writes.push(Write::new("io.max", throttle(key, device)));
        }
    }
    Ok(())
}

/// Block I/O weight, 10 to 1000, as `io.weight`, 1 to 10000, in proportion.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

fn throttle(key: &str, device: &LinuxThrottleDevice) -> String {
    let rate = match device.rate() {
        0 => "max".to_owned(),
        rate => rate.to_string(),
    };
    format!("{}:{} {key}={rate}", device.major(), device.minor())
}

/// Names of files and what to write there, as they are; a value of several lines is one write
/// each. In the order of the names, so that it is always the same.
fn unified(files: Option<&HashMap<String, String>>, writes: &mut Vec<Write>) -> Result<(), Error> {
    let mut files: Vec<_> = files.into_iter().flatten().collect();
    files.sort();
    for (file, value) in files {
        check_file("linux.resources.unified", file)?;
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

fn not_in_v2(field: &str) -> Error {
    Error::invalid(
        format!("linux.resources.{field}"),
        "cgroup v2 has nothing of the kind",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn of(value: Value) -> Result<Vec<(String, String)>, Error> {
        let resources: LinuxResources = serde_json::from_value(value).unwrap();
        Ok(writes(&resources)?
            .into_iter()
            .map(|w| (w.file, w.value))
            .collect())
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(file, value)| (file.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn conversions() {
        for (value, expected) in [
            (json!({}), vec![]),
            (
                json!({"cpu": {"shares": 1024}}),
                vec![("cpu.weight", "100")],
            ),
            (json!({"cpu": {"shares": 0}}), vec![]),
            (json!({"cpu": {"shares": 2}}), vec![("cpu.weight", "1")]),
            (
                json!({"cpu": {"shares": 262144}}),
                vec![("cpu.weight", "10000")],
            ),
            (
                json!({"cpu": {"quota": 50000, "period": 100000}}),
                vec![("cpu.max", "50000 100000")],
            ),
            (json!({"cpu": {"quota": 50000}}), vec![("cpu.max", "50000")]),
            (
                json!({"cpu": {"quota": -1, "period": 5000}}),
                vec![("cpu.max", "max 5000")],
            ),
            (json!({"cpu": {"quota": 0, "period": 100000}}), vec![]),
            (
                json!({"cpu": {"cpus": "0-1", "mems": "0"}}),
                vec![("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
            ),
            (
                json!({"memory": {"limit": 1000}}),
                vec![("memory.max", "1000")],
            ),
            (
                json!({"memory": {"limit": -1}}),
                vec![("memory.max", "max")],
            ),
            (
                json!({"memory": {"limit": 1000, "swap": 1000}}),
                vec![("memory.max", "1000"), ("memory.swap.max", "0")],
            ),
            (
                json!({"memory": {"limit": 1000, "swap": 1500, "reservation": 10}}),
                vec![
                    ("memory.max", "1000"),
                    ("memory.swap.max", "500"),
                    ("memory.low", "10"),
                ],
            ),
            (
                json!({"memory": {"limit": 1000, "swap": -1}}),
                vec![("memory.max", "1000"), ("memory.swap.max", "max")],
            ),
            (json!({"pids": {"limit": 10}}), vec![("pids.max", "10")]),
            (json!({"pids": {"limit": -1}}), vec![("pids.max", "max")]),
            (json!({"pids": {"limit": 0}}), vec![("pids.max", "1")]),
            (
                json!({"blockIO": {"weight": 1000}}),
                vec![("io.weight", "10000")],
            ),
            (json!({"blockIO": {"weight": 10}}), vec![("io.weight", "1")]),
            (
                json!({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 1, "rate": 0}]}}),
                vec![("io.max", "8:0 rbps=5"), ("io.max", "8:1 wiops=max")],
            ),
            (
                json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]}),
                vec![("hugetlb.2MB.max", "4096")],
            ),
            (
                json!({"rdma": {"mlx": {"hcaHandles": 2}}}),
                vec![("rdma.max", "mlx hca_handle=2")],
            ),
        ] {
            assert_eq!(of(value.clone()).unwrap(), pairs(&expected), "{value}");
        }
    }

    #[test]
    fn unified_comes_last_sorted_and_line_by_line() {
        let got = of(json!({
            "memory": {"limit": 1000},
            "unified": {"memory.max": "2000", "io.max": "8:0 rbps=1\n8:1 rbps=2"},
        }));
        let expected = [
            ("memory.max", "1000"),
            ("io.max", "8:0 rbps=1"),
            ("io.max", "8:1 rbps=2"),
            ("memory.max", "2000"),
        ];
        assert_eq!(got.unwrap(), pairs(&expected));
    }

    #[test]
    fn what_cgroup_v2_cannot_do_is_refused_by_name() {
        for (value, name) in [
            (json!({"cpu": {"realtimeRuntime": 5}}), "realtime"),
            (json!({"memory": {"swappiness": 5}}), "swappiness"),
            (json!({"memory": {"disableOOMKiller": true}}), "OOM"),
            (json!({"memory": {"limit": -2}}), "memory.limit"),
            (
                json!({"memory": {"limit": 1000, "swap": 500}}),
                "memory.swap",
            ),
            (json!({"memory": {"swap": 500}}), "memory.swap"),
            (json!({"blockIO": {"leafWeight": 5}}), "leafWeight"),
            (json!({"network": {"classID": 5}}), "network"),
            (json!({"unified": {"../cgroup.procs": "1"}}), "unified"),
            (json!({"unified": {"": "1"}}), "unified"),
            (
                json!({"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}),
                "hugepage",
            ),
        ] {
            let error = of(value.clone()).unwrap_err().to_string();
            assert!(error.contains(name), "{value}: {error}");
        }
    }

    #[test]
    fn absent_swap_control_forgives_only_what_it_does_anyway() {
        let write = |value: &str| Write::new("memory.swap.max", value);
        assert!(write("0").forgives(Errno::NOENT).is_ok());
        assert!(write("max").forgives(Errno::NOENT).is_ok());
        assert!(write("5").forgives(Errno::NOENT).is_err());
        assert!(write("0").forgives(Errno::INVAL).is_err());
        assert!(
            Write::new("memory.max", "max")
                .forgives(Errno::NOENT)
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn weights_grow_with_shares_and_stay_in_range(a in 1u64..400_000, b in 1u64..400_000) {
            let (low, high) = (weight_of_shares(a.min(b)).unwrap(), weight_of_shares(a.max(b)).unwrap());
            prop_assert!(low <= high && (1..=10_000).contains(&low) && high <= 10_000);
        }

        #[test]
        fn io_weights_stay_in_range(weight in 10u16..=1000) {
            prop_assert!((1..=10_000).contains(&io_weight(weight)));
        }
    }
}
