//! `spec`.

use std::fs::OpenOptions;
use std::io::Write;

use anyhow::{Context, Result};

use crate::args;

/// A container with a shell, in namespaces of its own.
const CONFIG: &str = include_str!("config.json");

/// Writes a configuration to start from; one that is there stays.
pub(crate) fn run(args: &args::Spec) -> Result<()> {
    let path = args.bundle.join("config.json");
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(CONFIG.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_to_start_from_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let args = args::Spec {
            bundle: dir.path().to_owned(),
        };
        run(&args).unwrap();
        let spec = crate::create::load(dir.path()).unwrap();
        assert_eq!(spec.process().as_ref().unwrap().cwd().to_str(), Some("/"));
        assert!(run(&args).is_err(), "an existing one is not overwritten");
    }
}
