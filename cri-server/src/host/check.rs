//! Facts about the host, judged against what skiff needs.

mod extensions;
mod selinux;

use std::path::{Path, PathBuf};

use oci_spec::runtime::Capability;
use rustix::fs::{Access, access};
use skiff_config::{CgroupDriver, Config};

use super::Host;
use super::filesystem::{self, Kind};
use super::kernel::Version;
use crate::cgroup_driver::Driver;
use crate::systemd;

pub use extensions::{cdi, handlers};
pub use selinux::selinux;

/// Oldest kernel that has every system call and file that skiff cannot do without; of the long-term
/// ones, the first with cgroup.kill (5.14). Tests run on 6.12 and later.
const OLDEST: Version = Version {
    major: 5,
    minor: 15,
};
/// The kernel from which all of skiff works: idmapped tmpfs.
const COMPLETE: Version = Version { major: 6, minor: 3 };
/// Less free space than this is worth a word, in bytes.
const LITTLE_SPACE: u64 = 5 << 30;
/// Fewer free inodes than this are worth a word.
const FEW_INODES: u64 = 100_000;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// skiff runs, and something does not work or will run out.
    Warning,
    /// Pods cannot run, or not as a kubelet asks.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// How it is.
    pub found: String,
    /// What to do; empty when it is fine.
    pub advice: String,
}

impl Finding {
    fn fine(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            severity: Severity::Fine,
            found: found.into(),
            advice: String::new(),
        }
    }

    fn warning(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let (found, advice) = (found.into(), advice.into());
        Self {
            name,
            severity: Severity::Warning,
            found,
            advice,
        }
    }

    fn missing(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let (found, advice) = (found.into(), advice.into());
        Self {
            name,
            severity: Severity::Missing,
            found,
            advice,
        }
    }
}

/// What the kernel offers.
pub fn kernel(host: &Host) -> Vec<Finding> {
    let mut findings = vec![version(host.kernel), privileges(host)];
    findings.extend(cgroups(host));
    findings.push(match &host.overlay {
        Err(e) => Finding::missing("overlay", e.as_str(), "load the kernel module overlay"),
        Ok(overlay) if overlay.layer_by_layer => Finding::fine("overlay", "layers one by one"),
        Ok(_) => Finding::warning(
            "overlay",
            "layers in one option",
            "images with very many layers need Linux 6.7",
        ),
    });
    findings.push(if host.seccomp_actions.is_empty() {
        Finding::warning(
            "seccomp",
            "not in this kernel",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        )
    } else {
        Finding::fine("seccomp", host.seccomp_actions.join(" "))
    });
    findings.push(match &host.user_namespaces {
        Ok(()) => Finding::fine("user namespaces", "with mapped layers and volumes"),
        Err(reason) => Finding::warning(
            "user namespaces",
            reason.as_str(),
            "pods with hostUsers: false need Linux 6.3, root on ext4, xfs or btrfs, the sysctl \
             user.max_user_namespaces above 0, and nothing mounted over files of /proc",
        ),
    });
    findings.push(match &host.recursive_read_only {
        Ok(()) => Finding::fine("read-only mounts", "with everything below them"),
        Err(reason) => Finding::warning(
            "read-only mounts",
            reason.as_str(),
            "volumes with recursiveReadOnly need mount_setattr (Linux 5.12)",
        ),
    });
    findings
}

fn version(kernel: Version) -> Finding {
    let found = kernel.to_string();
    if kernel < OLDEST {
        return Finding::missing("kernel", found, format!("use Linux {OLDEST} or later"));
    }
    if kernel < COMPLETE {
        let advice = format!("use Linux {COMPLETE} or later for idmapped tmpfs volumes");
        return Finding::warning("kernel", found, advice);
    }
    Finding::fine("kernel", found)
}

fn privileges(host: &Host) -> Finding {
    let root = rustix::process::geteuid().is_root();
    if root && host.bounding.contains(&Capability::SysAdmin) {
        return Finding::fine("privileges", "root");
    }
    let found = if root {
        "root without CAP_SYS_ADMIN"
    } else {
        "not root"
    };
    Finding::missing(
        "privileges",
        found,
        "run skiffd, and this check, as root of the host",
    )
}

fn cgroups(host: &Host) -> Vec<Finding> {
    let cgroups = match &host.cgroups {
        Ok(cgroups) => cgroups,
        Err(e) => {
            return vec![Finding::missing(
                "cgroup v2",
                e.as_str(),
                "skiff runs on cgroup v2 only",
            )];
        }
    };
    let lacking = |names: &[&'static str]| {
        let lacking: Vec<_> = names
            .iter()
            .copied()
            .filter(|name| !cgroups.has(name))
            .collect();
        lacking.join(" ")
    };
    let (needed, useful) = (
        lacking(&["cpu", "memory", "pids"]),
        lacking(&["cpuset", "io", "hugetlb"]),
    );
    let have = cgroups.controllers.join(" ");
    let controllers = if !needed.is_empty() {
        let advice = format!(
            "limits need {needed}: unmount the cgroup v1 hierarchies that hold them, or boot \
             without cgroup_disable="
        );
        Finding::missing("cgroup controllers", have, advice)
    } else if !useful.is_empty() {
        let advice = format!("requests that need {useful} will fail");
        Finding::warning("cgroup controllers", have, advice)
    } else {
        Finding::fine("cgroup controllers", have)
    };
    let swap = if cgroups.swap_accounting {
        Finding::fine("swap accounting", "memory.swap.max")
    } else {
        let advice = "use a kernel with CONFIG_SWAP, without swapaccount=0";
        Finding::warning("swap accounting", "none: swap is not limited", advice)
    };
    vec![
        Finding::fine("cgroup v2", super::cgroup::ROOT),
        controllers,
        swap,
    ]
}

/// What the configuration points to. `daemon` is where skiffd's program is or would be.
pub fn files(config: &Config, kernel: Version, daemon: &Path) -> Vec<Finding> {
    vec![
        cgroup_driver(config.cgroup_driver),
        shim(&config.runtime.shim.path(daemon)),
        directory("root directory", &config.root),
        directory("state directory", &config.state),
        storage(&config.root, kernel),
        space(&config.root),
        tmpfs(kernel),
    ]
}

fn cgroup_driver(configured: CgroupDriver) -> Finding {
    /// Where the system bus listens (dbus-daemon(1)).
    const BUS: &str = "/run/dbus/system_bus_socket";
    let name = "cgroup driver";
    match Driver::new(configured) {
        Driver::Cgroupfs if systemd::is_booted() => Finding::warning(
            name,
            "cgroupfs, where systemd runs",
            "set cgroup_driver = \"auto\": one hierarchy should have one manager",
        ),
        Driver::Cgroupfs => Finding::fine(name, "cgroupfs"),
        Driver::Systemd(_) if Path::new(BUS).exists() => Finding::fine(name, "systemd"),
        Driver::Systemd(_) => Finding::missing(
            name,
            format!("systemd, but no bus at {BUS}"),
            "install and start dbus, or set cgroup_driver = \"cgroupfs\"",
        ),
    }
}

fn shim(path: &Path) -> Finding {
    let found = path.display().to_string();
    match access(path, Access::EXEC_OK) {
        Ok(()) if path.is_file() => Finding::fine("shim", found),
        Ok(()) => Finding::missing("shim", format!("{found}: not a file"), "set runtime.shim"),
        Err(e) => {
            let advice = "install skiff-shim there, or set runtime.shim to where it is";
            Finding::missing("shim", format!("{found}: {e}"), advice)
        }
    }
}

/// The directory, or the nearest one above it that is there and in which it would be made.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"))
        .to_owned()
}

fn directory(name: &'static str, path: &Path) -> Finding {
    let place = nearest(path);
    let found = path.display().to_string();
    if !place.is_dir() {
        let found = format!("{}: not a directory", place.display());
        return Finding::missing(
            name,
            found,
            "remove the file, or configure another directory",
        );
    }
    match access(&place, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Finding::fine(name, found),
        Err(e) => {
            let found = format!("{}: {e}", place.display());
            Finding::missing(
                name,
                found,
                "make it writable, or configure another directory",
            )
        }
    }
}

/// Whether containers' writable layers can be below `root`.
fn storage(root: &Path, kernel: Version) -> Finding {
    let name = "storage";
    match filesystem::kind(&nearest(root), kernel) {
        Err(e) => Finding::missing(name, format!("{}: {e}", root.display()), "check the disk"),
        Ok(Kind {
            name: Some(kind @ ("overlay" | "nfs" | "vfat" | "squashfs" | "erofs")),
            ..
        }) => {
            let advice = "overlayfs cannot write there: put root on ext4, xfs or btrfs";
            Finding::missing(name, kind, advice)
        }
        Ok(Kind {
            name: kind,
            idmapped: true,
        }) => Finding::fine(
            name,
            format!("{}, can be idmapped", kind.unwrap_or("unknown")),
        ),
        Ok(Kind {
            name: kind,
            idmapped: false,
        }) => Finding::warning(
            name,
            kind.unwrap_or("of a kind not known to allow idmapped mounts"),
            "user namespaces need root on ext4, xfs or btrfs",
        ),
    }
}

fn tmpfs(kernel: Version) -> Finding {
    let name = "idmapped tmpfs";
    if kernel >= COMPLETE {
        return Finding::fine(name, format!("since Linux {COMPLETE}"));
    }
    let advice = format!("secrets in user namespaces need Linux {COMPLETE}");
    Finding::warning(name, "not in this kernel", advice)
}

fn space(root: &Path) -> Finding {
    let name = "free space";
    match filesystem::free(&nearest(root)) {
        Err(e) => Finding::missing(name, format!("{}: {e}", root.display()), "check the disk"),
        Ok((bytes, inodes)) => {
            let mut found = format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
            if let Some(inodes) = inodes {
                found.push_str(&format!(", {inodes} inodes"));
            }
            if bytes < LITTLE_SPACE || inodes.is_some_and(|inodes| inodes < FEW_INODES) {
                return Finding::warning(
                    name,
                    found,
                    "remove images, or put root on a larger disk",
                );
            }
            Finding::fine(name, found)
        }
    }
}

/// What the CNI client says about the network.
pub fn network(status: &skiff_cni::NetworkStatus) -> Vec<Finding> {
    let mut findings = vec![match (&status.file, status.ready) {
        (Some(file), true) => {
            let network = status.network.as_deref().unwrap_or("unnamed");
            Finding::fine("network", format!("{network} from {}", file.display()))
        }
        (None, true) => Finding::fine("network", "ready"),
        (_, false) => Finding::warning(
            "network",
            status.message.as_str(),
            "only pods in the host's network run: install a CNI configuration and its plugins",
        ),
    }];
    findings.extend(status.skipped.iter().map(|(file, reason)| {
        let found = format!("{}: {reason}", file.display());
        Finding::warning("network file", found, "mend or remove the file")
    }));
    findings
}

#[cfg(test)]
mod tests;
