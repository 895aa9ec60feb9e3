//! Where the logs of pods made here are: beside those of a kubelet's pods, under the same scheme,
//! so that collectors find them.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Logs of all pods.
const LOGS: &str = "/var/log/pods";
/// Namespace of the pods made here.
pub(super) const NAMESPACE: &str = "skiffctl";

/// Log directory of a pod. A name with a slash would lead elsewhere and is refused.
pub(super) fn directory(name: &str, uid: &str) -> anyhow::Result<PathBuf> {
    let leaf = format!("{NAMESPACE}_{name}_{uid}");
    if leaf.contains('/') {
        bail!("no log directory for a pod named {name:?} with uid {uid:?}: a slash");
    }
    Ok(Path::new(LOGS).join(leaf))
}

/// Removes a log directory. One that does not exist is fine.
pub(super) fn remove(directory: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_log_directory() {
        let fine = directory("..", "1").unwrap();
        assert_eq!(fine, Path::new("/var/log/pods/skiffctl_.._1"));
        assert!(directory("/../../x", "1").is_err());
        assert!(directory("x", "/../1").is_err());
    }
}
