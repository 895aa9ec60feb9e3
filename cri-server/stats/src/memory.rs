//! `memory.stat`.

use crate::flat::pairs;

/// What a cgroup's memory is used for, the cgroups below it included: bytes and events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStat {
    /// Anonymous memory.
    pub anon: u64,
    /// The page cache, tmpfs included.
    pub file: u64,
    /// File pages that some process has mapped.
    pub file_mapped: u64,
    /// File pages in use of late.
    pub active_file: u64,
    /// File pages that the kernel would give up first.
    pub inactive_file: u64,
    /// What the kernel has for it; since Linux 5.18.
    pub kernel: Option<u64>,
    /// Page faults, major ones included.
    pub faults: u64,
    /// Page faults that waited for a disk.
    pub major_faults: u64,
}

impl MemoryStat {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut stat = Self::default();
        let mut found = 0;
        for (key, value) in pairs(text) {
            let field = match key {
                "anon" => &mut stat.anon,
                "file" => &mut stat.file,
                "file_mapped" => &mut stat.file_mapped,
                "active_file" => &mut stat.active_file,
                "inactive_file" => &mut stat.inactive_file,
                "pgfault" => &mut stat.faults,
                "pgmajfault" => &mut stat.major_faults,
                "kernel" => {
                    stat.kernel = Some(value);
                    continue;
                }
                _ => continue,
            };
            *field = value;
            found += 1;
        }
        (found == 7).then_some(stat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "anon 8192\nfile 40960\nkernel 1000\nkernel_stack 64\nfile_mapped 4096\n\
                        inactive_anon 1\nactive_anon 2\ninactive_file 30000\nactive_file 10960\n\
                        pgfault 50\npgmajfault 3\n";

    #[test]
    fn what_every_kernel_says_must_be_there() {
        let stat = MemoryStat::parse(TEXT).unwrap();
        assert_eq!(stat.inactive_file, 30_000);
        assert_eq!(stat.kernel, Some(1000));
        assert_eq!((stat.faults, stat.major_faults), (50, 3));
        let old = TEXT.replace("kernel 1000\n", "");
        assert_eq!(MemoryStat::parse(&old).unwrap().kernel, None);
        assert_eq!(MemoryStat::parse(&TEXT.replace("pgfault", "x")), None);
        assert_eq!(MemoryStat::parse(""), None);
    }
}
