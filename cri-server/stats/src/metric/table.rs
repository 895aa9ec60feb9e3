//! Every metric there is.
//!
//! Of what cAdvisor has, these are left out: `container_hugetlb_max_usage_bytes`, of which the kernel
//! keeps no account in cgroup v2; load averages and task states, which take a conversation with the
//! kernel for every container and which the kubelet never had; single parts of disk traffic that
//! `io.stat` does not have.

use skiff_cri::v1::MetricType::{self, Counter, Gauge};

use super::Metric;

const fn plain(name: &'static str, kind: MetricType, help: &'static str) -> Metric {
    with(name, kind, &[], help)
}

const fn with(
    name: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        help,
    }
}

/// Declares constants, and [`ALL`] of them.
macro_rules! metrics {
    ($($constant:ident = $metric:expr;)*) => {
        $(pub(super) const $constant: Metric = $metric;)*

        /// Every metric there is.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

const DEVICE: &[&str] = &["device"];
const INTERFACE: &[&str] = &["interface"];

metrics! {
    LAST_SEEN = plain("container_last_seen", Gauge, "When it was last looked at, in seconds since the epoch.");
    START_TIME = plain("container_start_time_seconds", Gauge, "When it was started, in seconds since the epoch.");

    CPU_USAGE = with("container_cpu_usage_seconds_total", Counter, &["cpu"], "Processor time in seconds.");
    CPU_USER = plain("container_cpu_user_seconds_total", Counter, "Processor time in user mode, in seconds.");
    CPU_SYSTEM = plain("container_cpu_system_seconds_total", Counter, "Processor time in the kernel, in seconds.");
    CFS_PERIODS = plain("container_cpu_cfs_periods_total", Counter, "Periods of the processor limit that have passed.");
    CFS_THROTTLED = plain("container_cpu_cfs_throttled_periods_total", Counter, "Periods in which the processor limit stopped it.");
    CFS_THROTTLED_TIME = plain("container_cpu_cfs_throttled_seconds_total", Counter, "For how long the processor limit stopped it, in seconds.");

    MEMORY_USAGE = plain("container_memory_usage_bytes", Gauge, "Memory in use, all kinds of it.");
    MEMORY_MAX_USAGE = plain("container_memory_max_usage_bytes", Gauge, "Most memory that was in use.");
    MEMORY_WORKING_SET = plain("container_memory_working_set_bytes", Gauge, "Memory in use without inactive file pages.");
    MEMORY_RSS = plain("container_memory_rss", Gauge, "Anonymous memory in bytes.");
    MEMORY_CACHE = plain("container_memory_cache", Gauge, "Page cache in bytes.");
    MEMORY_KERNEL = plain("container_memory_kernel_usage", Gauge, "Memory of the kernel in bytes.");
    MEMORY_MAPPED_FILE = plain("container_memory_mapped_file", Gauge, "Mapped file pages in bytes.");
    MEMORY_ACTIVE_FILE = plain("container_memory_total_active_file_bytes", Gauge, "Active file pages.");
    MEMORY_INACTIVE_FILE = plain("container_memory_total_inactive_file_bytes", Gauge, "Inactive file pages.");
    MEMORY_SWAP = plain("container_memory_swap", Gauge, "Swap in use, in bytes.");
    MEMORY_FAILCNT = plain("container_memory_failcnt", Counter, "How often memory was reclaimed because of the limit.");
    MEMORY_FAILURES = with("container_memory_failures_total", Counter, &["failure_type", "scope"], "Page faults.");
    OOM_EVENTS = plain("container_oom_events_total", Counter, "Processes killed for want of memory.");

    HUGE_PAGES = with("container_hugetlb_usage_bytes", Gauge, &["pagesize"], "Huge pages in use, in bytes.");

    CPU_STALLED = plain("container_pressure_cpu_stalled_seconds_total", Counter, "For how long no task could go on for want of a processor, in seconds.");
    CPU_WAITING = plain("container_pressure_cpu_waiting_seconds_total", Counter, "For how long some task waited for a processor, in seconds.");
    MEMORY_STALLED = plain("container_pressure_memory_stalled_seconds_total", Counter, "For how long no task could go on for want of memory, in seconds.");
    MEMORY_WAITING = plain("container_pressure_memory_waiting_seconds_total", Counter, "For how long some task waited for memory, in seconds.");
    IO_STALLED = plain("container_pressure_io_stalled_seconds_total", Counter, "For how long no task could go on for want of a disk, in seconds.");
    IO_WAITING = plain("container_pressure_io_waiting_seconds_total", Counter, "For how long some task waited for a disk, in seconds.");

    FS_USAGE = with("container_fs_usage_bytes", Gauge, DEVICE, "Bytes that it has written and not deleted.");
    FS_LIMIT = with("container_fs_limit_bytes", Gauge, DEVICE, "Size of the file system that it writes to.");
    FS_INODES_FREE = with("container_fs_inodes_free", Gauge, DEVICE, "Free inodes of that file system.");
    FS_INODES_TOTAL = with("container_fs_inodes_total", Gauge, DEVICE, "All inodes of that file system.");
    FS_READS = with("container_fs_reads_total", Counter, DEVICE, "Requests to read from a block device.");
    FS_READ_BYTES = with("container_fs_reads_bytes_total", Counter, DEVICE, "Bytes read from a block device.");
    FS_WRITES = with("container_fs_writes_total", Counter, DEVICE, "Requests to write to a block device.");
    FS_WRITTEN_BYTES = with("container_fs_writes_bytes_total", Counter, DEVICE, "Bytes written to a block device.");
    BLKIO = with("container_blkio_device_usage_total", Counter, &["device", "major", "minor", "operation"], "Bytes exchanged with a block device.");

    RX_BYTES = with("container_network_receive_bytes_total", Counter, INTERFACE, "Bytes received.");
    RX_PACKETS = with("container_network_receive_packets_total", Counter, INTERFACE, "Packets received.");
    RX_DROPPED = with("container_network_receive_packets_dropped_total", Counter, INTERFACE, "Packets dropped that came in.");
    RX_ERRORS = with("container_network_receive_errors_total", Counter, INTERFACE, "Packets that came in with errors.");
    TX_BYTES = with("container_network_transmit_bytes_total", Counter, INTERFACE, "Bytes sent.");
    TX_PACKETS = with("container_network_transmit_packets_total", Counter, INTERFACE, "Packets sent.");
    TX_DROPPED = with("container_network_transmit_packets_dropped_total", Counter, INTERFACE, "Packets dropped that should go out.");
    TX_ERRORS = with("container_network_transmit_errors_total", Counter, INTERFACE, "Errors in sending.");

    PROCESSES = plain("container_processes", Gauge, "Processes.");
    THREADS = plain("container_threads", Gauge, "Threads of all processes.");
    THREADS_MAX = plain("container_threads_max", Gauge, "Most threads there may be; 0 without a limit.");
    FILE_DESCRIPTORS = plain("container_file_descriptors", Gauge, "Open files of all processes.");
    SOCKETS = plain("container_sockets", Gauge, "Open sockets of all processes.");
    ULIMITS_SOFT = with("container_ulimits_soft", Gauge, &["ulimit"], "Soft resource limits of the first process, where there are any.");

    SPEC_CPU_PERIOD = plain("container_spec_cpu_period", Gauge, "Length of a period of the processor limit, in microseconds.");
    SPEC_CPU_QUOTA = plain("container_spec_cpu_quota", Gauge, "Processor time in a period, in microseconds; only with a limit.");
    SPEC_CPU_SHARES = plain("container_spec_cpu_shares", Gauge, "Share of the processors beside others.");
    SPEC_MEMORY_LIMIT = plain("container_spec_memory_limit_bytes", Gauge, "Most memory; 0 without a limit.");
    SPEC_MEMORY_RESERVATION = plain("container_spec_memory_reservation_limit_bytes", Gauge, "Memory that is not taken from it.");
    SPEC_SWAP_LIMIT = plain("container_spec_memory_swap_limit_bytes", Gauge, "Most swap; 0 without a limit.");
}
