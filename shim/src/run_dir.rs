//! The directory in which a shim is found.

use std::io;
use std::path::PathBuf;

use skiff_shim_proto::record::run_dir::{LOG, SOCKET};

/// A shim's run directory, made by whoever starts the shim and removed by the shim.
#[derive(Debug)]
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The listening socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// Removes the directory with what a shim puts into it, and nothing else.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for name in [SOCKET, LOG] {
            gone_is_fine(std::fs::remove_file(self.0.join(name)))?;
        }
        gone_is_fine(std::fs::remove_dir(&self.0))
    }
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(parent.path().join("shim"));
        std::fs::create_dir(&run_dir.0).unwrap();
        for name in [SOCKET, LOG, "precious"] {
            std::fs::write(run_dir.0.join(name), "").unwrap();
        }
        assert!(run_dir.remove().is_err());
        assert!(run_dir.0.join("precious").exists());
        std::fs::remove_file(run_dir.0.join("precious")).unwrap();
        run_dir.remove().unwrap();
        run_dir.remove().unwrap();
    }
}
