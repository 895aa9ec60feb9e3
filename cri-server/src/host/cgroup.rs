//! The cgroup hierarchy.

use std::fs;
use std::path::Path;

use rustix::fs::statfs;

/// Where the unified hierarchy is mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

/// File system type of cgroup v2 (linux/magic.h).
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// A cgroup v2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// Controllers available at its root.
    pub controllers: Vec<String>,
    /// Cgroups have `memory.swap.max`.
    pub swap_accounting: bool,
}

impl Cgroups {
    /// Whether a controller is available.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// Looks at /sys/fs/cgroup; the error says what is there instead of cgroup v2, and what to do.
pub fn probe() -> Result<Cgroups, String> {
    let root = Path::new(ROOT);
    let found = statfs(root).map_err(|e| format!("{ROOT}: {e}; mount cgroup2 there"))?;
    if found.f_type as u64 != CGROUP2_SUPER_MAGIC {
        return Err(format!(
            "{ROOT} is not cgroup v2; boot with systemd.unified_cgroup_hierarchy=1, or without \
             systemd mount cgroup2 there and leave every v1 controller unmounted"
        ));
    }
    let list = fs::read_to_string(root.join("cgroup.controllers"))
        .map_err(|e| format!("{ROOT}/cgroup.controllers: {e}"))?;
    let controllers: Vec<_> = list.split_whitespace().map(str::to_owned).collect();
    let memory = controllers.iter().any(|name| name == "memory");
    let swap_accounting = memory && has_swap_file(root, 3).unwrap_or_else(kernel_has_swap);
    Ok(Cgroups {
        controllers,
        swap_accounting,
    })
}

/// Looks for a cgroup that has the memory controller, to see whether it counts swap; `None` when
/// there is none down to `depth` levels. The root itself has no limits.
fn has_swap_file(dir: &Path, depth: u32) -> Option<bool> {
    let children = fs::read_dir(dir).ok()?.filter_map(Result::ok);
    let children = children.filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir()));
    children.map(|child| child.path()).find_map(|child| {
        if child.join("memory.max").exists() {
            return Some(child.join("memory.swap.max").exists());
        }
        if depth > 1 {
            has_swap_file(&child, depth - 1)
        } else {
            None
        }
    })
}

fn kernel_has_swap() -> bool {
    Path::new("/proc/swaps").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_accounting_is_seen_in_the_first_cgroup_with_memory() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        make("a/cgroup.procs");
        assert_eq!(has_swap_file(root.path(), 3), None);
        make("a/b/memory.max");
        assert_eq!(has_swap_file(root.path(), 3), Some(false));
        assert_eq!(has_swap_file(root.path(), 1), None);
        make("a/b/memory.swap.max");
        assert_eq!(has_swap_file(root.path(), 3), Some(true));
    }
}
