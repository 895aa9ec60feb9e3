//! What one cgroup uses, at one moment.

use skiff_cri::v1 as cri;

use crate::cpu::CpuStat;
pub use crate::flat::Limit;
use crate::flat::single;
use crate::memory::MemoryStat;
use crate::pressure::Pressure;
use crate::{Files, value};

/// What the files of a cgroup say. What a controller that is not enabled would say is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// When they were read, nanoseconds since the epoch.
    pub at: i64,
    /// Processor time.
    pub cpu: Option<CpuStat>,
    /// Waiting for a processor.
    pub cpu_pressure: Option<Pressure>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Swap; absent where the kernel does not count it.
    pub swap: Option<Level>,
    /// Waiting for disks.
    pub io_pressure: Option<Pressure>,
    /// Tasks: threads of all processes.
    pub tasks: Option<u64>,
}

/// How much is used of what may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// In use.
    pub current: u64,
    /// The most that may be.
    pub limit: Limit,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub level: Level,
    /// What it is used for.
    pub stat: MemoryStat,
}

impl Memory {
    /// What cannot be had back easily: all but the file pages that the kernel would give up first.
    /// What a kubelet evicts by.
    pub fn working_set(&self) -> u64 {
        self.level.current.saturating_sub(self.stat.inactive_file)
    }
}

impl Usage {
    /// Reads a cgroup's files.
    pub fn read(files: &mut impl Files, at: i64) -> Self {
        let cpu = files.read("cpu.stat").and_then(CpuStat::parse);
        let memory = level(files, "memory.current", "memory.max").and_then(|level| {
            let stat = files.read("memory.stat").and_then(MemoryStat::parse)?;
            Some(Memory { level, stat })
        });
        let mut pressure = |file: &str| files.read(file).and_then(Pressure::parse);
        let cpu_pressure = pressure("cpu.pressure");
        // A cgroup has all of them or none (cgroup.pressure).
        let mut other = |file: &str| cpu_pressure.and_then(|_| pressure(file));
        Self {
            at,
            cpu,
            cpu_pressure,
            memory_pressure: other("memory.pressure"),
            io_pressure: other("io.pressure"),
            memory,
            swap: memory.and_then(|_| level(files, "memory.swap.current", "memory.swap.max")),
            tasks: files.read("pids.current").and_then(single),
        }
    }

    /// Whether this is still what the cgroup uses: nothing in it has run since, or was charged for
    /// memory, and nothing waited before. What its memory is used for is looked at, too: the kernel
    /// moves pages to where it would give them up first without charging anybody. Reads three files
    /// instead of all.
    pub fn stands(&self, files: &mut impl Files) -> bool {
        let (Some(cpu), Some(memory)) = (self.cpu, self.memory) else {
            return false;
        };
        let pressures = [self.cpu_pressure, self.memory_pressure, self.io_pressure];
        pressures.into_iter().flatten().all(Pressure::is_calm)
            && files.read("cpu.stat").and_then(CpuStat::parse) == Some(cpu)
            && files.read("memory.current").and_then(single) == Some(memory.level.current)
            && files.read("memory.stat").and_then(MemoryStat::parse) == Some(memory.stat)
    }

    /// Nothing could be read: the cgroup is gone.
    pub fn is_empty(&self) -> bool {
        self.cpu.is_none() && self.memory.is_none() && self.tasks.is_none()
    }

    /// Processor time in the words of the CRI, with the cores in use now, if known.
    pub fn cpu(&self, nano_cores: Option<u64>) -> Option<cri::CpuUsage> {
        let cpu = self.cpu?;
        Some(cri::CpuUsage {
            timestamp: self.at,
            usage_core_nano_seconds: value(cpu.usage.saturating_mul(1000)),
            usage_nano_cores: nano_cores.and_then(value),
            psi: self.cpu_pressure.map(Pressure::to_cri),
        })
    }

    /// Memory in the words of the CRI. Without a limit nothing is said of what is available.
    pub fn memory(&self) -> Option<cri::MemoryUsage> {
        let memory = self.memory?;
        let working_set = memory.working_set();
        Some(cri::MemoryUsage {
            timestamp: self.at,
            working_set_bytes: value(working_set),
            available_bytes: memory.level.limit.left(working_set).and_then(value),
            usage_bytes: value(memory.level.current),
            rss_bytes: value(memory.stat.anon),
            page_faults: value(memory.stat.faults),
            major_page_faults: value(memory.stat.major_faults),
            psi: self.memory_pressure.map(Pressure::to_cri),
        })
    }

    /// Swap in the words of the CRI. Without a limit nothing is said of what is available.
    pub fn swap(&self) -> Option<cri::SwapUsage> {
        let Level { current, limit } = self.swap?;
        Some(cri::SwapUsage {
            timestamp: self.at,
            swap_available_bytes: limit.left(current).and_then(value),
            swap_usage_bytes: value(current),
        })
    }

    /// Disks in the words of the CRI, which has only the waiting for them.
    pub fn io(&self) -> Option<cri::IoUsage> {
        let psi = self.io_pressure.map(Pressure::to_cri);
        psi.map(|psi| cri::IoUsage {
            timestamp: self.at,
            psi: Some(psi),
        })
    }
}

fn level(files: &mut impl Files, current: &str, limit: &str) -> Option<Level> {
    let current = files.read(current).and_then(single)?;
    let limit = files.read(limit).and_then(Limit::parse)?;
    Some(Level { current, limit })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A cgroup that is a table.
    pub(crate) struct Table(pub(crate) BTreeMap<&'static str, &'static str>);

    impl Files for Table {
        fn read(&mut self, name: &str) -> Option<&str> {
            self.0.get(name).copied()
        }
    }

    /// The files of a container with all controllers.
    pub(crate) fn whole() -> Table {
        const PRESSURE: &str = "some avg10=1.00 avg60=2.00 avg300=3.00 total=5000000\n\
                                full avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\n";
        Table(BTreeMap::from([
            (
                "cpu.stat",
                "usage_usec 7000000\nuser_usec 5000000\nsystem_usec 2000000\nnr_periods 9\n\
                 nr_throttled 4\nthrottled_usec 3000000\n",
            ),
            ("cpu.pressure", PRESSURE),
            ("memory.pressure", PRESSURE),
            ("io.pressure", PRESSURE),
            ("memory.current", "50000\n"),
            ("memory.max", "100000\n"),
            (
                "memory.stat",
                "anon 20000\nfile 25000\nkernel 5000\nfile_mapped 1000\ninactive_file 15000\n\
                 active_file 10000\npgfault 70\npgmajfault 6\n",
            ),
            ("memory.swap.current", "4096\n"),
            ("memory.swap.max", "8192\n"),
            ("memory.peak", "90000\n"),
            ("memory.min", "1000\n"),
            (
                "memory.events",
                "low 0\nhigh 0\nmax 11\noom 2\noom_kill 1\noom_group_kill 0\n",
            ),
            ("pids.current", "5\n"),
            ("pids.max", "1024\n"),
            (
                "io.stat",
                "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
            ),
            ("hugetlb.2MB.current", "2097152\n"),
        ]))
    }

    #[test]
    fn all_controllers() {
        let usage = Usage::read(&mut whole(), 3);
        let cpu = usage.cpu(Some(5)).unwrap();
        assert_eq!(cpu.timestamp, 3);
        assert_eq!(cpu.usage_core_nano_seconds, value(7_000_000_000));
        assert_eq!(cpu.usage_nano_cores, value(5));
        assert_eq!(cpu.psi.unwrap().full.unwrap().total, 2_000_000_000);
        let memory = usage.memory().unwrap();
        assert_eq!(memory.working_set_bytes, value(35_000));
        assert_eq!(memory.available_bytes, value(65_000));
        assert_eq!(memory.usage_bytes, value(50_000));
        assert_eq!(memory.rss_bytes, value(20_000));
        assert_eq!(memory.page_faults, value(70));
        assert_eq!(memory.major_page_faults, value(6));
        let swap = usage.swap().unwrap();
        assert_eq!(swap.swap_usage_bytes, value(4096));
        assert_eq!(swap.swap_available_bytes, value(4096));
        assert!(usage.io().unwrap().psi.is_some());
        assert_eq!(usage.tasks, Some(5));
    }

    /// The same, with nothing that has waited of late.
    fn calm() -> Table {
        const CALM: &str = "some avg10=0.00 avg60=0.00 avg300=0.00 total=5000000\n";
        let mut files = whole();
        for pressure in ["cpu.pressure", "memory.pressure", "io.pressure"] {
            files.0.insert(pressure, CALM);
        }
        files
    }

    #[test]
    fn what_was_read_stands_until_something_runs_or_is_charged_for() {
        let mut files = whole();
        let waited = Usage::read(&mut files, 3);
        assert!(!waited.stands(&mut files), "averages fall");
        let mut files = calm();
        let usage = Usage::read(&mut files, 3);
        assert!(usage.stands(&mut files));
        files.0.insert("cpu.stat", "usage_usec 7000001\n");
        assert!(!usage.stands(&mut files), "it ran");
        let mut files = calm();
        files.0.insert("memory.current", "46000\n");
        assert!(!usage.stands(&mut files), "memory was taken back");
        let mut files = calm();
        let aged = "anon 20000\nfile 25000\nkernel 5000\nfile_mapped 1000\ninactive_file 25000\n\
                    active_file 0\npgfault 70\npgmajfault 6\n";
        files.0.insert("memory.stat", aged);
        assert!(!usage.stands(&mut files), "the working set is smaller");
        files.0.clear();
        assert!(!usage.stands(&mut files), "it is gone");
        let unknown = Usage::read(&mut files, 3);
        assert!(!unknown.stands(&mut files), "nothing was known");
    }

    #[test]
    fn without_limits_nothing_is_available() {
        let mut files = whole();
        files.0.insert("memory.max", "max\n");
        files.0.insert("memory.swap.max", "max\n");
        let usage = Usage::read(&mut files, 3);
        assert_eq!(usage.memory().unwrap().available_bytes, None);
        assert_eq!(usage.swap().unwrap().swap_available_bytes, None);
    }

    #[test]
    fn what_the_kernel_does_not_say_is_absent() {
        let mut files = whole();
        files.0.retain(|name, _| *name == "cpu.stat");
        let usage = Usage::read(&mut files, 3);
        assert!(!usage.is_empty());
        let cpu = usage.cpu(None).unwrap();
        assert!(cpu.psi.is_none() && cpu.usage_nano_cores.is_none());
        assert_eq!(
            (usage.memory(), usage.swap(), usage.io()),
            (None, None, None)
        );
        files.0.clear();
        assert!(Usage::read(&mut files, 3).is_empty());
    }
}
