//! Everything a runtime may leave behind on a node, as text that can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::process;

/// What the node looks like, part by part; each part is a sorted list of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint(BTreeMap<&'static str, Vec<String>>);

/// Directories whose every entry counts: its path, kind, mode and owner, and the content of files.
const TREES: [(&str, &str); 9] = [
    ("named network namespaces", "/run/netns"),
    ("CNI leases", "/var/lib/cni"),
    ("snapshots", "/var/lib/skiff/snapshots"),
    ("records", "/var/lib/skiff/state"),
    ("files of pods", "/var/lib/skiff/pods"),
    ("CNI results", "/var/lib/skiff/cni"),
    ("shims", "/run/skiff/shims"),
    ("images", "/var/lib/skiff/images"),
    ("port proxies", "/run/cni-portproxy"),
];

impl Footprint {
    /// Reads the node. Shims and daemon should have ended, or they count as processes.
    pub fn read() -> Self {
        let mut parts = BTreeMap::new();
        parts.insert("mount table", mounts());
        parts.insert("cgroups", cgroups());
        parts.insert("processes", processes());
        parts.insert("network interfaces", names("/sys/class/net"));
        for (part, path) in TREES {
            parts.insert(part, tree(Path::new(path)));
        }
        Self(parts)
    }

    /// What `self` has and `before` has not (`+`), and the other way round (`-`), one line each.
    pub fn difference(&self, before: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (part, now) in &self.0 {
            let then = before.0.get(part).map_or(&[][..], Vec::as_slice);
            lines.extend(
                now.iter()
                    .filter(|line| !then.contains(line))
                    .map(|line| format!("{part}: + {line}")),
            );
            lines.extend(
                then.iter()
                    .filter(|line| !now.contains(line))
                    .map(|line| format!("{part}: - {line}")),
            );
            if now.len() != then.len() {
                lines.push(format!(
                    "{part}: {} entries, {} before",
                    now.len(),
                    then.len()
                ));
            }
        }
        lines
    }
}

/// The mount table without the ids that are numbered anew for every mount.
fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| line.split(' ').skip(2).collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort();
    lines
}

fn cgroups() -> Vec<String> {
    fn below(path: &Path, lines: &mut Vec<String>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                lines.push(entry.path().display().to_string());
                below(&entry.path(), lines);
            }
        }
    }
    let mut lines = Vec::new();
    below(Path::new("/sys/fs/cgroup"), &mut lines);
    lines.sort();
    lines
}

fn processes() -> Vec<String> {
    let mut lines: Vec<String> = process::all()
        .into_iter()
        .filter_map(|pid| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            Some(format!(
                "{pid} {}",
                String::from_utf8_lossy(&arguments).replace('\0', " ")
            ))
        })
        .collect();
    lines.sort();
    lines
}

fn names(path: &str) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn tree(root: &Path) -> Vec<String> {
    fn below(path: &Path, lines: &mut Vec<String>) {
        let Ok(meta) = fs::symlink_metadata(path) else {
            return;
        };
        let mut line = format!(
            "{} {:o} {}:{}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid()
        );
        // host-local's memory of the last address it gave out, no lease
        let counter = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("last_reserved_ip"));
        if meta.is_file() && !counter {
            let content = fs::read(path).unwrap_or_default();
            line.push_str(&format!(" {}", digest(&content)));
        }
        lines.push(line);
        if meta.is_dir() {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                below(&entry.path(), lines);
            }
        }
    }
    let mut lines = Vec::new();
    below(root, &mut lines);
    lines.sort();
    lines
}

/// A sha256 digest as registries write it.
pub fn digest(content: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let bytes = Sha256::digest(content);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_part_and_the_side() {
        let before = Footprint(BTreeMap::from([(
            "cgroups",
            vec!["a".to_owned(), "b".to_owned()],
        )]));
        let after = Footprint(BTreeMap::from([(
            "cgroups",
            vec!["b".to_owned(), "c".to_owned()],
        )]));
        assert_eq!(after.difference(&before), ["cgroups: + c", "cgroups: - a"]);
        assert!(after.difference(&after).is_empty());
    }

    #[test]
    fn a_repeated_line_is_a_difference() {
        let before = Footprint(BTreeMap::from([("mount table", vec!["x".to_owned()])]));
        let after = Footprint(BTreeMap::from([(
            "mount table",
            vec!["x".to_owned(), "x".to_owned()],
        )]));
        assert_eq!(
            after.difference(&before),
            ["mount table: 2 entries, 1 before"]
        );
    }

    #[test]
    fn a_digest_is_the_registry_form() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(b""), empty);
    }
}
