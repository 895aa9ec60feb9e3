//! The sealed copy of the shim's binary that the daemon executes.
//!
//! A container can reach the file behind /proc/self/exe of the process it came from. That file is
//! a memfd of ours which nobody can write, so a container that breaks out of its file system
//! still cannot change what the next pod runs.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::ShimError;
use crate::open_files::OpenFiles;

/// Name of the binary beside the daemon's own.
pub const NAME: &str = "skiff-shim";

/// A shim binary in memory.
#[derive(Debug)]
pub struct Binary {
    memfd: File,
    /// How many files its processes may open.
    pub(super) files: OpenFiles,
}

impl Binary {
    /// Copies the file at `path`, for processes that may open so many files.
    pub fn load(path: &Path, files: OpenFiles) -> Result<Self, ShimError> {
        let failed = |source| ShimError::Binary {
            path: path.into(),
            source,
        };
        let mut from = File::open(path).map_err(failed)?;
        let mut memfd = File::from(
            memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
                .map_err(|e| failed(e.into()))?,
        );
        io::copy(&mut from, &mut memfd).map_err(failed)?;
        let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        fcntl_add_seals(&memfd, all).map_err(|e| failed(e.into()))?;
        Ok(Self { memfd, files })
    }

    /// The path to execute: good in this process and in a child before its exec.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.memfd.as_raw_fd()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> OpenFiles {
        OpenFiles::raise().unwrap()
    }

    #[test]
    fn the_copy_runs_and_cannot_be_written() {
        let binary = Binary::load(Path::new("/bin/true"), files()).unwrap();
        assert!(
            std::process::Command::new(binary.path())
                .status()
                .unwrap()
                .success()
        );
        let error = std::fs::OpenOptions::new()
            .write(true)
            .open(binary.path())
            .and_then(|mut f| io::Write::write_all(&mut f, b"x"))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_missing_binary_is_named() {
        let error = Binary::load(Path::new("/no/skiff-shim"), files()).unwrap_err();
        assert!(error.to_string().contains("/no/skiff-shim"), "{error}");
    }
}
