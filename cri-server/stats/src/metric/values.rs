//! What metrics are made of.

use super::Sheet;
use super::table::*;
use crate::detail::Detail;
use crate::io::DeviceIo;
use crate::network::Interface;
use crate::pressure::Pressure;
use crate::usage::{Memory, Usage};

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// What the kernel counts for every cgroup, a pod's as well as a container's. `device` names a block
/// device by its numbers.
pub fn cgroup(
    sheet: &mut Sheet,
    usage: &Usage,
    detail: &Detail,
    mut device: impl FnMut(&DeviceIo) -> String,
) {
    sheet.put(&LAST_SEEN, [], whole_seconds(usage.at));
    cpu(sheet, usage);
    if let Some(memory) = &usage.memory {
        self::memory(sheet, memory);
    }
    sheet.maybe(&MEMORY_SWAP, usage.swap.map(|swap| swap.current));
    sheet.maybe(&MEMORY_MAX_USAGE, detail.memory_peak);
    sheet.maybe(&MEMORY_FAILCNT, detail.limit_hits);
    sheet.maybe(&OOM_EVENTS, detail.oom_kills);
    sheet.maybe(&THREADS, usage.tasks);
    sheet.maybe(&THREADS_MAX, detail.tasks_max.map(|limit| limit.or_zero()));
    for (size, bytes) in &detail.huge_pages {
        sheet.put(&HUGE_PAGES, [size], *bytes);
    }
    for (pressure, stalled, waiting) in [
        (usage.cpu_pressure, CPU_STALLED, CPU_WAITING),
        (usage.memory_pressure, MEMORY_STALLED, MEMORY_WAITING),
        (usage.io_pressure, IO_STALLED, IO_WAITING),
    ] {
        let Pressure { some, full } = pressure.unwrap_or_default();
        for (metric, stall) in [(stalled, full), (waiting, some)] {
            if let Some(stall) = stall {
                sheet.seconds(&metric, stall.total);
            }
        }
    }
    for io in &detail.io {
        disk(sheet, io, &device(io));
    }
}

fn cpu(sheet: &mut Sheet, usage: &Usage) {
    let Some(cpu) = usage.cpu else {
        return;
    };
    // The kernel has no account for single processors in cgroup v2.
    sheet.put(&CPU_USAGE, ["total"], cpu.usage / 1_000_000);
    sheet.seconds(&CPU_USER, cpu.user);
    sheet.seconds(&CPU_SYSTEM, cpu.system);
    if let Some(throttling) = cpu.throttling {
        sheet.put(&CFS_PERIODS, [], throttling.periods);
        sheet.put(&CFS_THROTTLED, [], throttling.throttled);
        sheet.seconds(&CFS_THROTTLED_TIME, throttling.time);
    }
}

fn memory(sheet: &mut Sheet, memory: &Memory) {
    let stat = &memory.stat;
    sheet.put(&MEMORY_USAGE, [], memory.level.current);
    sheet.put(&MEMORY_WORKING_SET, [], memory.working_set());
    sheet.put(&MEMORY_RSS, [], stat.anon);
    sheet.put(&MEMORY_CACHE, [], stat.file);
    sheet.maybe(&MEMORY_KERNEL, stat.kernel);
    sheet.put(&MEMORY_MAPPED_FILE, [], stat.file_mapped);
    sheet.put(&MEMORY_ACTIVE_FILE, [], stat.active_file);
    sheet.put(&MEMORY_INACTIVE_FILE, [], stat.inactive_file);
    // In cgroup v2 all figures are those of a cgroup with all below it; queries name either scope.
    for scope in ["container", "hierarchy"] {
        sheet.put(&MEMORY_FAILURES, ["pgfault", scope], stat.faults);
        sheet.put(&MEMORY_FAILURES, ["pgmajfault", scope], stat.major_faults);
    }
}

fn disk(sheet: &mut Sheet, io: &DeviceIo, device: &str) {
    sheet.put(&FS_READS, [device], io.reads);
    sheet.put(&FS_READ_BYTES, [device], io.read_bytes);
    sheet.put(&FS_WRITES, [device], io.writes);
    sheet.put(&FS_WRITTEN_BYTES, [device], io.written_bytes);
    let (major, minor) = (io.major.to_string(), io.minor.to_string());
    for (operation, bytes) in [("Read", io.read_bytes), ("Write", io.written_bytes)] {
        sheet.put(&BLKIO, [device, &major, &minor, operation], bytes);
    }
}

/// What went through a pod's interfaces.
pub fn network(sheet: &mut Sheet, interfaces: &[Interface]) {
    for interface in interfaces {
        let name = [interface.name.as_str()];
        let (received, sent) = (&interface.received, &interface.sent);
        sheet.put(&RX_BYTES, name, received.bytes);
        sheet.put(&RX_PACKETS, name, received.packets);
        sheet.put(&RX_DROPPED, name, received.dropped);
        sheet.put(&RX_ERRORS, name, received.errors);
        sheet.put(&TX_BYTES, name, sent.bytes);
        sheet.put(&TX_PACKETS, name, sent.packets);
        sheet.put(&TX_DROPPED, name, sent.dropped);
        sheet.put(&TX_ERRORS, name, sent.errors);
    }
}

/// What a container's processes hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processes {
    /// How many there are.
    pub count: u64,
    /// Their open files.
    pub files: u64,
    /// Those that are sockets.
    pub sockets: u64,
    /// How many files the first process may open; `None` without a limit.
    pub files_limit: Option<u64>,
}

/// The limits that hold for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Length of a period of the processor limit, in microseconds.
    pub cpu_period: u64,
    /// Processor time in it, in microseconds.
    pub cpu_quota: Option<u64>,
    /// Share of the processors.
    pub cpu_shares: u64,
}

/// What is told of containers alone.
pub fn container(
    sheet: &mut Sheet,
    usage: &Usage,
    detail: &Detail,
    processes: Option<&Processes>,
    spec: &Spec,
    started_at: i64,
) {
    if started_at > 0 {
        sheet.put(&START_TIME, [], whole_seconds(started_at));
    }
    if let Some(processes) = processes {
        sheet.put(&PROCESSES, [], processes.count);
        sheet.put(&FILE_DESCRIPTORS, [], processes.files);
        sheet.put(&SOCKETS, [], processes.sockets);
        if let Some(limit) = processes.files_limit {
            sheet.put(&ULIMITS_SOFT, ["max_open_files"], limit);
        }
    }
    sheet.put(&SPEC_CPU_PERIOD, [], spec.cpu_period);
    sheet.maybe(&SPEC_CPU_QUOTA, spec.cpu_quota);
    sheet.put(&SPEC_CPU_SHARES, [], spec.cpu_shares);
    let memory = usage.memory.map(|memory| memory.level.limit.or_zero());
    sheet.maybe(&SPEC_MEMORY_LIMIT, memory);
    sheet.maybe(&SPEC_MEMORY_RESERVATION, detail.memory_min);
    let swap = usage.swap.map(|swap| swap.limit.or_zero());
    sheet.maybe(&SPEC_SWAP_LIMIT, swap);
}

/// The file system that containers write to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// Its device, such as `/dev/vda1`.
    pub device: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its inodes.
    pub inodes: u64,
    /// Those that are free.
    pub inodes_free: u64,
}

/// What a container has written, in bytes, and where to.
pub fn filesystem(sheet: &mut Sheet, written: Option<u64>, on: &Filesystem) {
    let device = [on.device.as_str()];
    if let Some(written) = written {
        sheet.put(&FS_USAGE, device, written);
    }
    sheet.put(&FS_LIMIT, device, on.bytes);
    sheet.put(&FS_INODES_FREE, device, on.inodes_free);
    sheet.put(&FS_INODES_TOTAL, device, on.inodes);
}

fn whole_seconds(nanoseconds: i64) -> u64 {
    u64::try_from(nanoseconds / SECOND).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Subject, descriptors};
    use crate::network;
    use crate::usage::tests::whole;
    use skiff_cri::v1 as cri;
    use std::collections::{BTreeMap, BTreeSet};

    fn everything() -> Vec<cri::Metric> {
        let subject = Subject {
            id: "i".into(),
            image: "m".into(),
            namespace: "n".into(),
            pod: "p".into(),
            container: "c".into(),
        };
        let mut sheet = Sheet::new(subject, 5 * SECOND);
        let usage = Usage::read(&mut whole(), 5 * SECOND);
        let detail = Detail::read(&mut whole(), &["2MB".into()]);
        cgroup(&mut sheet, &usage, &detail, |io| {
            format!("/dev/{}", io.major)
        });
        let interfaces = "\n\neth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        super::network(&mut sheet, &network::parse(interfaces));
        let processes = Processes {
            count: 2,
            files: 9,
            sockets: 1,
            files_limit: Some(1024),
        };
        let spec = Spec {
            cpu_period: 100_000,
            cpu_quota: Some(50_000),
            cpu_shares: 512,
        };
        container(
            &mut sheet,
            &usage,
            &detail,
            Some(&processes),
            &spec,
            4 * SECOND,
        );
        let on = Filesystem {
            device: "/dev/8".into(),
            bytes: 1000,
            inodes: 100,
            inodes_free: 90,
        };
        filesystem(&mut sheet, Some(7), &on);
        sheet.finish()
    }

    #[test]
    fn every_metric_has_a_value_and_a_label_value_for_each_key() {
        let keys: BTreeMap<_, _> = descriptors()
            .into_iter()
            .map(|descriptor| (descriptor.name, descriptor.label_keys))
            .collect();
        assert_eq!(keys.len(), ALL.len(), "two metrics of one name");
        let metrics = everything();
        for metric in &metrics {
            assert_eq!(
                metric.label_values.len(),
                keys[&metric.name].len(),
                "{metric:?}"
            );
            assert_eq!(
                metric.label_values[..5],
                ["i", "m", "n", "p", "c"].map(String::from)
            );
            assert_eq!(metric.timestamp, 5 * SECOND);
        }
        let told: BTreeSet<_> = metrics.iter().map(|metric| &metric.name).collect();
        assert_eq!(told, keys.keys().collect::<BTreeSet<_>>());
    }

    #[test]
    fn no_two_values_have_the_same_labels() {
        let metrics = everything();
        let series: BTreeSet<_> = metrics
            .iter()
            .map(|metric| (&metric.name, &metric.label_values))
            .collect();
        assert_eq!(series.len(), metrics.len());
    }

    #[test]
    fn values_are_what_the_files_say() {
        let metrics = everything();
        for (name, label, expected) in [
            ("container_cpu_usage_seconds_total", "total", 7),
            ("container_cpu_cfs_throttled_seconds_total", "c", 3),
            ("container_memory_working_set_bytes", "c", 35_000),
            ("container_memory_failures_total", "hierarchy", 6),
            ("container_pressure_io_stalled_seconds_total", "c", 2),
            ("container_pressure_io_waiting_seconds_total", "c", 5),
            ("container_blkio_device_usage_total", "Write", 20),
            (
                "container_network_transmit_packets_dropped_total",
                "eth0",
                8,
            ),
            ("container_ulimits_soft", "max_open_files", 1024),
            ("container_start_time_seconds", "c", 4),
            ("container_last_seen", "c", 5),
            ("container_fs_usage_bytes", "/dev/8", 7),
        ] {
            let found = metrics.iter().rfind(|metric| {
                metric.name == name && metric.label_values.last().is_some_and(|l| l == label)
            });
            let found = found.unwrap_or_else(|| panic!("no {name} {label}"));
            assert_eq!(found.value.unwrap().value, expected, "{name}");
        }
    }

    #[test]
    fn without_controllers_and_limits_nothing_is_made_up() {
        let mut files = whole();
        files.0.retain(|name, _| *name == "cpu.stat");
        let mut sheet = Sheet::new(Subject::default(), 1);
        let usage = Usage::read(&mut files, 1);
        cgroup(&mut sheet, &usage, &Detail::default(), |_| String::new());
        let names: BTreeSet<_> = sheet
            .finish()
            .into_iter()
            .map(|metric| metric.name)
            .collect();
        assert!(
            names
                .iter()
                .all(|name| name.contains("cpu") || name.contains("last_seen"))
        );
        assert!(!names.iter().any(|name| name.contains("pressure")));
    }
}
