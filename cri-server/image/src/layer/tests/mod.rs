//! Archives of every kind, honest and hostile, and what becomes of them.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ::tar::{Builder, EntryType, Header};
use proptest::prelude::*;
use rustix::fs::lgetxattr;
use tempfile::TempDir;

use super::extract::{Extracted, Extractor};
use super::tar::{Kind, Reader};
use super::*;

const LIMITS: Limits = Limits {
    bytes: 1 << 30,
    entries: 10_000,
    reserve: 0,
};

mod entries;
mod grafts;
mod hostile;
mod properties;

/// Says why a test does nothing.
#[allow(clippy::print_stderr)]
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// An archive under construction.
struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Adds an entry with exactly this name, which the builder itself would refuse.
    fn add(mut self, kind: EntryType, name: &str, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.add(EntryType::Regular, name, "", 0o644, data.as_bytes())
    }

    fn dir(self, name: &str, mode: u32) -> Self {
        self.add(EntryType::Directory, name, "", mode, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, name, target, 0o777, b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Link, name, target, 0o644, b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A place to extract to, with something beside it that must stay as it is.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["fs", "replaced", "outside"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        fs::write(dir.path().join("outside/secret"), "untouched").unwrap();
        Self { dir }
    }

    fn fs(&self) -> PathBuf {
        self.dir.path().join("fs")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.fs().join(path)
    }

    fn extract_limited(&self, archive: &[u8], limits: Limits) -> Result<Extracted, LayerError> {
        Extractor::new(&self.fs(), &self.dir.path().join("replaced"), limits)?
            .run(&mut Reader::new(archive))
    }

    fn extract(&self, archive: Archive) -> Result<Extracted, LayerError> {
        self.extract_limited(&archive.bytes(), LIMITS)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn assert_outside_untouched(&self) {
        let outside = self.dir.path().join("outside");
        assert_eq!(
            fs::read_to_string(outside.join("secret")).unwrap(),
            "untouched"
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
    }
}
