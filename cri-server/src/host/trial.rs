//! What containers can have on this node: the shim's program tries it.
//!
//! It does so with the code that runs containers: a list of what kernels can do
//! would not know this node's file systems, limits and covered parts of /proc.

use std::path::Path;
use std::process::{Command, Stdio};

/// What can be tried.
#[derive(Debug, Clone, Copy)]
pub enum Trial<'a> {
    /// User namespaces, for containers whose files are on the file system of this directory, which
    /// exists.
    UserNamespaces(&'a Path),
    /// Mounts that are read-only with everything below them.
    RecursiveReadOnly,
}

/// Asks the shim's program at `shim`. The error is the reason why it does not work.
pub fn ask(shim: &Path, trial: Trial<'_>) -> Result<(), String> {
    let mut command = Command::new(shim);
    match trial {
        Trial::UserNamespaces(directory) => command.arg("--probe-user-namespaces").arg(directory),
        Trial::RecursiveReadOnly => command.arg("--probe-recursive-read-only"),
    };
    let asked = command
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
        let root = Trial::UserNamespaces(Path::new("/"));
        assert_eq!(ask(Path::new("/bin/true"), root), Ok(()));
        let failed = ask(Path::new("/bin/false"), Trial::RecursiveReadOnly).unwrap_err();
        assert!(failed.contains("/bin/false ended with"), "{failed}");
        let missing = ask(Path::new("/no/skiff-shim"), root).unwrap_err();
        assert!(missing.contains("/no/skiff-shim"), "{missing}");
    }
}
