//! The state of the process that looks.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::sys;

/// Everything that a container's configuration can change about a process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The fields of /proc/self/status (proc_pid_status(5)), values trimmed.
    pub status: BTreeMap<String, String>,
    /// /proc/self/uid_map: first id inside, first id outside, how many.
    pub uid_map: Vec<[u64; 3]>,
    /// The same of gid_map.
    pub gid_map: Vec<[u64; 3]>,
    /// The namespaces by name as in /proc/self/ns.
    pub namespaces: BTreeMap<String, Namespace>,
    /// The label of the security module, empty without one.
    pub label: String,
    /// The working directory.
    pub cwd: String,
    /// /proc/self/limits: soft and hard limit by name.
    pub limits: BTreeMap<String, (String, String)>,
    /// /proc/self/oom_score_adj.
    pub oom_score_adj: i32,
    /// Open files by descriptor; the one that lists them is left out.
    pub files: BTreeMap<u32, String>,
    /// /proc/self/mountinfo.
    pub mounts: Vec<Mount>,
    /// The path in the unified hierarchy, as the process's cgroup namespace shows it.
    pub cgroup: String,
    /// The files of the cgroup that set limits, by name; only where /sys/fs/cgroup is mounted.
    pub cgroup_files: BTreeMap<String, String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The host name.
    pub hostname: String,
}

/// One namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its inode number.
    pub id: u64,
    /// The inode number of the user namespace that owns it; none where the kernel does not tell
    /// (ioctl_ns(2): the owner is an ancestor's).
    pub owner: Option<u64>,
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is.
    pub point: String,
    /// Which directory of the file system it shows.
    pub root: String,
    /// The kind of file system.
    pub kind: String,
    /// What was mounted.
    pub source: String,
    /// Options of this mount.
    pub options: Vec<String>,
    /// Options of the file system.
    pub super_options: Vec<String>,
    /// `shared:N`, `master:N` and so on.
    pub propagation: Vec<String>,
}

impl Report {
    /// Reads this process.
    pub fn read() -> anyhow::Result<Self> {
        let status = text("/proc/self/status")?;
        let status = status.lines().filter_map(|line| line.split_once(':'));
        Ok(Self {
            status: status
                .map(|(name, value)| (name.to_owned(), value.trim().replace('\t', " ")))
                .collect(),
            uid_map: mapping("/proc/self/uid_map")?,
            gid_map: mapping("/proc/self/gid_map")?,
            namespaces: namespaces()?,
            label: text("/proc/self/attr/current")
                .unwrap_or_default()
                .trim_end_matches(['\n', '\0'])
                .to_owned(),
            cwd: std::env::current_dir()
                .map(|path| path.display().to_string())
                .unwrap_or_else(|error| error.to_string()),
            limits: limits(&text("/proc/self/limits")?),
            oom_score_adj: text("/proc/self/oom_score_adj")?.trim().parse()?,
            files: files()?,
            mounts: text("/proc/self/mountinfo")?
                .lines()
                .filter_map(mount)
                .collect(),
            cgroup: text("/proc/self/cgroup")?
                .lines()
                .find_map(|line| line.strip_prefix("0::"))
                .unwrap_or_default()
                .to_owned(),
            cgroup_files: cgroup_files(Path::new("/sys/fs/cgroup")),
            environment: std::env::vars_os()
                .map(|(name, value)| {
                    (
                        name.to_string_lossy().into_owned(),
                        value.to_string_lossy().into_owned(),
                    )
                })
                .collect(),
            hostname: text("/proc/sys/kernel/hostname")?.trim().to_owned(),
        })
    }

    /// A field of /proc/self/status, empty when there is none of that name.
    pub fn field(&self, name: &str) -> &str {
        self.status.get(name).map_or("", String::as_str)
    }

    /// A capability set of /proc/self/status (`CapEff` and its sisters) as bits.
    pub fn capabilities(&self, set: &str) -> Option<u64> {
        u64::from_str_radix(self.field(set), 16).ok()
    }

    /// What is mounted at `point`: the topmost, if several are.
    pub fn mount(&self, point: &str) -> Option<&Mount> {
        self.mounts.iter().rev().find(|mount| mount.point == point)
    }
}

impl Mount {
    /// Whether the mount has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|each| each == option)
    }
}

fn text(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {path}"))
}

fn mapping(path: &str) -> anyhow::Result<Vec<[u64; 3]>> {
    let mut lines = Vec::new();
    for line in text(path)?.lines() {
        let numbers: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
        let [inside, outside, count] = numbers[..] else {
            anyhow::bail!("{path}: {line:?} is not three numbers");
        };
        lines.push([inside, outside, count]);
    }
    Ok(lines)
}

fn namespaces() -> anyhow::Result<BTreeMap<String, Namespace>> {
    let mut namespaces = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/ns").context("list /proc/self/ns")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let file =
            fs::File::open(entry.path()).with_context(|| format!("open the {name} namespace"))?;
        let owner = sys::owner(&file)
            .and_then(|owner| fs::File::from(owner).metadata())
            .map(|owner| owner.ino());
        let namespace = Namespace {
            id: file.metadata()?.ino(),
            owner: owner.ok(),
        };
        namespaces.insert(name, namespace);
    }
    Ok(namespaces)
}

/// The columns of /proc/self/limits: a name with blanks, soft and hard limit, perhaps a unit.
fn limits(text: &str) -> BTreeMap<String, (String, String)> {
    let rows = text.lines().skip(1).filter_map(|line| {
        let (name, rest) = line.split_at_checked(26)?;
        let mut values = rest.split_whitespace().map(str::to_owned);
        Some((name.trim_end().to_owned(), (values.next()?, values.next()?)))
    });
    rows.collect()
}

fn files() -> anyhow::Result<BTreeMap<u32, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").context("list /proc/self/fd")? {
        let entry = entry?;
        // the listing's own descriptor is gone by the time it is looked up, or names this directory
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let target = target.display().to_string();
        let number = entry.file_name().to_string_lossy().parse()?;
        if !target.starts_with("/proc/") || !target.ends_with("/fd") {
            files.insert(number, target);
        }
    }
    Ok(files)
}

fn mount(line: &str) -> Option<Mount> {
    let (first, last) = line.split_once(" - ")?;
    let mut fields = first.split(' ').skip(3);
    let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
    let propagation = fields.map(str::to_owned).collect();
    let mut fields = last.split(' ');
    let (kind, source, super_options) = (fields.next()?, fields.next()?, fields.next()?);
    let list = |options: &str| options.split(',').map(str::to_owned).collect();
    Some(Mount {
        point: point.to_owned(),
        root: root.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: list(options),
        super_options: list(super_options),
        propagation,
    })
}

/// Small files that hold limits and counters; not the ones that grow with processes and devices.
fn cgroup_files(directory: &Path) -> BTreeMap<String, String> {
    const KINDS: [&str; 6] = ["cpu.", "cpuset.", "memory.", "pids.", "io.", "hugetlb."];
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| KINDS.iter().any(|kind| name.starts_with(kind)))
        .filter_map(|name| {
            let content = fs::read_to_string(directory.join(&name)).ok()?;
            Some((name, content.trim_end().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_with_its_optional_fields() {
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue";
        let mount = mount(line).expect("a mount");
        assert_eq!(
            (mount.root.as_str(), mount.point.as_str()),
            ("/mnt1", "/mnt2")
        );
        assert_eq!(mount.propagation, ["shared:1", "master:2"]);
        assert_eq!(
            (mount.kind.as_str(), mount.source.as_str()),
            ("ext3", "/dev/root")
        );
        assert!(mount.has("noatime"));
        let plain = "22 1 0:5 / /proc rw - proc proc rw";
        assert!(super::mount(plain).expect("a mount").propagation.is_empty());
    }

    #[test]
    fn limits_are_read_by_column() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 4096                 files     \n\
                    Max nice priority         0                    0                    \n";
        let limits = limits(text);
        let files = ("1024".to_owned(), "4096".to_owned());
        assert_eq!(limits.get("Max open files"), Some(&files));
        assert_eq!(limits.len(), 2);
    }

    #[test]
    fn this_process_can_be_read() {
        let report = Report::read().expect("a report");
        assert!(report.capabilities("CapBnd").is_some());
        assert!(report.namespaces.contains_key("user"));
        assert!(!report.cwd.is_empty());
    }
}
