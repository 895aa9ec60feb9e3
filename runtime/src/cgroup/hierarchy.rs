//! Making cgroups, and having controllers in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::fs::{Mode, mkdir};
use rustix::io::Errno;

use crate::Error;
use crate::error::Doing;

/// Where cgroup v2 is mounted.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// Controllers that a container has where they can be had: those with limits in a configuration
/// or figures in the statistics.
const WANTED: &[&str] = &["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

/// Makes the directory; whether it was made. Parents that are missing are made too, and give
/// their children every wanted controller that they have themselves. A parent that was there is
/// written to only when it lacks one.
pub(super) fn make(path: &Path) -> Result<bool, Error> {
    let doing = || format!("make cgroup {}", path.display());
    match mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::NOENT) => {
            check_below_root(path)?;
            let parent = path.parent().unwrap_or(Path::new(ROOT));
            make(parent)?;
            for above in ancestors(parent) {
                // What cannot be had is missed only by who sets a limit: see `enable`.
                let _ = pass_down(above, WANTED);
            }
            mkdir(path, Mode::from_raw_mode(0o755)).doing(doing)?;
            Ok(true)
        }
        Err(e) => Err(Error::system(doing(), e)),
    }
}

/// Makes the controller to which `file` belongs available in the cgroup at `path`, by switching
/// it on in all parents.
pub(super) fn enable(path: &Path, file: &str) -> Result<(), Error> {
    check_below_root(path)?;
    let controller = file.split('.').next().unwrap_or_default();
    let missing = || Error::Controller {
        path: path.to_owned(),
        file: file.to_owned(),
        controller: controller.to_owned(),
    };
    let parent = path.parent().ok_or_else(missing)?;
    for above in ancestors(parent) {
        pass_down(above, &[controller])?;
        if !listed(above, "cgroup.subtree_control")?.contains(controller) {
            return Err(missing());
        }
    }
    Ok(())
}

/// From the root of the hierarchy down to `path`.
fn ancestors(path: &Path) -> Vec<&Path> {
    let mut list: Vec<_> = path
        .ancestors()
        .take_while(|above| above.starts_with(ROOT))
        .collect();
    list.reverse();
    list
}

/// Lets children of `cgroup` have those of the controllers that it has itself and does not pass
/// down already. Each is tried; the first failure is returned.
fn pass_down(cgroup: &Path, controllers: &[&str]) -> Result<(), Error> {
    let has = listed(cgroup, "cgroup.controllers")?;
    if !controllers
        .iter()
        .any(|controller| has.contains(*controller))
    {
        return Ok(());
    }
    let passes = listed(cgroup, "cgroup.subtree_control")?;
    let mut outcome = Ok(());
    for controller in controllers {
        if !has.contains(*controller) || passes.contains(*controller) {
            continue;
        }
        let file = cgroup.join("cgroup.subtree_control");
        let written = fs::write(&file, format!("+{controller}"))
            .doing(|| format!("write +{controller} to {}", file.display()));
        outcome = outcome.and(written);
    }
    outcome
}

fn listed(cgroup: &Path, file: &str) -> Result<BTreeSet<String>, Error> {
    let path = cgroup.join(file);
    let text = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn check_below_root(path: &Path) -> Result<(), Error> {
    let odd = path
        .components()
        .any(|part| matches!(part, std::path::Component::ParentDir));
    if path.starts_with(ROOT) && path != Path::new(ROOT) && !odd {
        Ok(())
    } else {
        Err(Error::invalid(
            "cgroup",
            format!("{} is not below {ROOT}", path.display()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_start_at_the_root() {
        let list = ancestors(Path::new("/sys/fs/cgroup/a/b"));
        let expected = ["/sys/fs/cgroup", "/sys/fs/cgroup/a", "/sys/fs/cgroup/a/b"];
        assert_eq!(list, expected.map(Path::new));
        assert!(ancestors(Path::new("/tmp")).is_empty());
    }

    #[test]
    fn only_paths_below_the_mount_are_made() {
        for bad in ["/no/such/a/b", "/sys/fs/cgroup", "/sys/fs/cgroup/../x/y"] {
            assert!(check_below_root(Path::new(bad)).is_err(), "{bad}");
        }
        check_below_root(Path::new("/sys/fs/cgroup/a")).unwrap();
    }
}
