//! The Container Device Interface: devices that a vendor describes in files, and the changes to a
//! container that each asks for (CDI specification 0.3 to 1.1).
//!
//! [`Cdi`] knows the directories and answers by name. Nothing is read until the first device is
//! asked for, and from then on only after inotify has told of a change: asking costs one system
//! call. What is done with the changes is the caller's business.
//!
//! Map: [`name`] names of devices; [`document`] the files, [`edits`]
//! what is changed by them; `directory` which of them count;
//! `watch` what has changed.
//!
//! Invariants: a file that cannot be read or is not valid takes nothing away from the others, and
//! is told of once; a device that two files of the same directory describe is none.

#![forbid(unsafe_code)]

pub mod document;
pub mod edits;
pub mod name;

mod directory;
mod watch;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use directory::Index;
pub use document::Document;
pub use edits::ContainerEdits;
pub use name::DeviceName;
use watch::Watch;

/// Prefix of the keys of annotations that ask for devices.
pub const ANNOTATION_PREFIX: &str = "cdi.k8s.io/";

/// Why a device cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CdiError {
    /// It does not look like the name of a device.
    #[error("{text:?} is not the name of a CDI device: {reason}")]
    Name {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No valid file describes it.
    #[error("no CDI device {name} in {}{}", list(dirs), because(problems))]
    Unknown {
        /// The device.
        name: DeviceName,
        /// Where it was looked for.
        dirs: Vec<PathBuf>,
        /// Files that do not count, any of which may have been meant to describe it.
        problems: Vec<Problem>,
    },
}

/// A file that does not count, or not in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or a directory that cannot be listed.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What there is, for people to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// Every device with the file that describes it, by name.
    pub devices: Vec<(DeviceName, PathBuf)>,
    /// Files that do not count, or not in full.
    pub problems: Vec<Problem>,
}

/// The devices of a node.
#[derive(Debug)]
pub struct Cdi {
    /// Later ones go before earlier ones.
    dirs: Vec<PathBuf>,
    known: Mutex<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    watch: Watch,
    index: Arc<Index>,
}

impl Cdi {
    /// For the files in `dirs`; what a later one says goes before what an earlier one says.
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Self {
            dirs,
            known: Mutex::new(None),
        }
    }

    /// The changes that devices ask for, in order: for each device those of its document, once,
    /// then its own. Reads files when something has changed.
    pub fn edits(&self, names: &[DeviceName]) -> Result<Vec<Arc<ContainerEdits>>, CdiError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let index = self.index();
        let mut edits = Vec::new();
        let mut documents = HashSet::new();
        for name in names {
            let Some(device) = index.devices.get(name) else {
                return Err(CdiError::Unknown {
                    name: name.clone(),
                    dirs: self.dirs.clone(),
                    problems: index.problems.clone(),
                });
            };
            if documents.insert(device.path.clone()) {
                edits.extend(device.common.clone());
            }
            edits.push(Arc::clone(&device.edits));
        }
        Ok(edits)
    }

    /// Everything there is. Reads files when something has changed.
    pub fn overview(&self) -> Overview {
        let index = self.index();
        let devices = index.devices.iter();
        let mut devices: Vec<_> = devices
            .map(|(name, device)| (name.clone(), device.path.to_path_buf()))
            .collect();
        devices.sort();
        Overview {
            devices,
            problems: index.problems.clone(),
        }
    }

    fn index(&self) -> Arc<Index> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Known { watch, index }) = &mut *known
            && !watch.has_rung()
        {
            return Arc::clone(index);
        }
        // Watched before it is read, so that no change falls between the two.
        let watch = Watch::arm(&self.dirs);
        let index = Arc::new(directory::load(&self.dirs));
        let told = known.take().map(|known| known.index);
        for problem in &index.problems {
            if !told.as_ref().is_some_and(|t| t.problems.contains(problem)) {
                let Problem { path, reason } = problem;
                tracing::warn!(path = %path.display(), reason, "CDI file passed over");
            }
        }
        *known = Some(Known {
            watch,
            index: Arc::clone(&index),
        });
        index
    }
}

/// The devices that a request names, each once: those of the list, then those of annotations
/// whose keys begin with [`ANNOTATION_PREFIX`] and whose values are names with commas between.
pub fn requested<'a>(
    list: impl IntoIterator<Item = &'a str>,
    annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<DeviceName>, CdiError> {
    let annotated = annotations
        .into_iter()
        .filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX))
        .flat_map(|(_, value)| value.split(','));
    let mut names: Vec<DeviceName> = Vec::new();
    for text in list.into_iter().chain(annotated) {
        let name = text.parse()?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn list(dirs: &[PathBuf]) -> String {
    let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    dirs.join(" or ")
}

fn because(problems: &[Problem]) -> String {
    let each = problems
        .iter()
        .map(|problem| format!("; {}: {}", problem.path.display(), problem.reason));
    each.collect()
}

#[cfg(test)]
mod tests;
