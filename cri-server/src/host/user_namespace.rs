//! Whether pods can have user namespaces.
//!
//! The shim's program tries it, with the code that runs containers: a list of what kernels can do
//! would not know this node's file systems, limits and covered parts of /proc.

use std::path::Path;
use std::process::{Command, Stdio};

/// Asks the shim's program at `shim`, for containers whose files are on the file system of
/// `directory`, which exists. The error is the reason why they cannot.
pub fn probe(shim: &Path, directory: &Path) -> Result<(), String> {
    let asked = Command::new(shim)
        .arg("--probe-user-namespaces")
        .arg(directory)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("run {}: {e}", shim.display()))?;
    if asked.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&asked.stderr);
    let reason = reason.trim().trim_start_matches("skiff-shim: ");
    Err(match reason {
        "" => format!("{} ended with {}", shim.display(), asked.status),
        reason => reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_or_is_not_there_is_a_reason() {
        let root = Path::new("/");
        assert_eq!(probe(Path::new("/bin/true"), root), Ok(()));
        let failed = probe(Path::new("/bin/false"), root).unwrap_err();
        assert!(failed.contains("/bin/false ended with"), "{failed}");
        let missing = probe(Path::new("/no/skiff-shim"), root).unwrap_err();
        assert!(missing.contains("/no/skiff-shim"), "{missing}");
    }
}
