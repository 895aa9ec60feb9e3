//! What else the files of a cgroup say, for metrics alone: read only while somebody asks for those.

use crate::Files;
use crate::flat::{get, single};
use crate::io::{self, DeviceIo};
use crate::usage::Limit;

/// What only metrics are made of. What a controller that is not enabled would say is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// Traffic with each block device.
    pub io: Vec<DeviceIo>,
    /// Most memory that was in use, in bytes; since Linux 5.19.
    pub memory_peak: Option<u64>,
    /// Memory that is not to be taken from it, in bytes.
    pub memory_min: Option<u64>,
    /// How often memory had to be reclaimed because of the limit.
    pub limit_hits: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
    /// Most tasks there may be.
    pub tasks_max: Option<Limit>,
    /// Bytes in huge pages, by the size of the page as file names have it, such as `2MB`.
    pub huge_pages: Vec<(String, u64)>,
}

impl Detail {
    /// Reads a cgroup's files; `page_sizes` are those of the host's huge pages.
    pub fn read(files: &mut impl Files, page_sizes: &[String]) -> Self {
        let huge_pages = page_sizes.iter().filter_map(|size| {
            let text = files.read(&format!("hugetlb.{size}.current"))?;
            Some((size.clone(), single(text)?))
        });
        let huge_pages = huge_pages.collect();
        let events = files.read("memory.events");
        let (limit_hits, oom_kills) = match events {
            Some(text) => (get(text, "max"), get(text, "oom_kill")),
            None => (None, None),
        };
        Self {
            io: files.read("io.stat").map(io::parse).unwrap_or_default(),
            memory_peak: files.read("memory.peak").and_then(single),
            memory_min: files.read("memory.min").and_then(single),
            limit_hits,
            oom_kills,
            tasks_max: files.read("pids.max").and_then(Limit::parse),
            huge_pages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::tests::whole;

    #[test]
    fn all_controllers() {
        let sizes = ["2MB".to_owned(), "1GB".to_owned()];
        let detail = Detail::read(&mut whole(), &sizes);
        assert_eq!(detail.huge_pages, [("2MB".to_owned(), 2_097_152)]);
        assert_eq!((detail.limit_hits, detail.oom_kills), (Some(11), Some(1)));
        assert_eq!(detail.memory_peak, Some(90_000));
        assert_eq!(detail.tasks_max, Some(Limit::At(1024)));
        assert_eq!(detail.io.len(), 1);
    }

    #[test]
    fn no_controllers() {
        let mut files = whole();
        files.0.clear();
        assert_eq!(Detail::read(&mut files, &[]), Detail::default());
    }
}
