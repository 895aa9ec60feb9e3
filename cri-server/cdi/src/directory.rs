//! Which files count: every `.json`, `.yaml` and `.yml` right in the directories. Of a device that
//! several describe, the one in the later directory counts; two in one directory contradict each
//! other, and none counts.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Problem;
use crate::document::{Document, DocumentError};
use crate::edits::ContainerEdits;
use crate::name::{DeviceName, Kind};

/// Largest file, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// What the directories say.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) devices: HashMap<DeviceName, Device>,
    pub(crate) problems: Vec<Problem>,
}

/// A device that can be had.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    /// The file that describes it.
    pub(crate) path: Arc<Path>,
    /// What every device of that file changes; `None` for nothing.
    pub(crate) common: Option<Arc<ContainerEdits>>,
    /// What this one changes.
    pub(crate) edits: Arc<ContainerEdits>,
}

#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("longer than {MAX_SIZE} bytes")]
    TooLong,
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// Reads all files.
pub(crate) fn load(dirs: &[PathBuf]) -> Index {
    let mut index = Index::default();
    for dir in dirs {
        let (devices, problems) = load_dir(dir);
        index.devices.extend(devices);
        index.problems.extend(problems);
    }
    index
}

fn load_dir(dir: &Path) -> (HashMap<DeviceName, Device>, Vec<Problem>) {
    let mut devices: HashMap<DeviceName, Device> = HashMap::new();
    let mut problems = Vec::new();
    let mut contradicted: Vec<DeviceName> = Vec::new();
    let files = files(dir).unwrap_or_else(|error| {
        problems.push(Problem {
            path: dir.to_owned(),
            reason: format!("cannot be listed: {error}"),
        });
        Vec::new()
    });
    for path in files {
        let (kind, document) = match read(&path) {
            Ok(read) => read,
            Err(error) => {
                let reason = error.to_string();
                problems.push(Problem { path, reason });
                continue;
            }
        };
        for (name, device) in describe(&path, &kind, document) {
            let Some(other) = devices.get(&name) else {
                devices.insert(name, device);
                continue;
            };
            let reason = format!("device {name} is in {}, too", other.path.display());
            let path = path.clone();
            problems.push(Problem { path, reason });
            contradicted.push(name);
        }
    }
    devices.retain(|name, _| !contradicted.contains(name));
    (devices, problems)
}

fn describe(
    path: &Path,
    kind: &Kind,
    document: Document,
) -> impl Iterator<Item = (DeviceName, Device)> {
    let path: Arc<Path> = path.into();
    let common = document.container_edits;
    let common = (!common.is_empty()).then(|| Arc::new(common));
    document.devices.into_iter().map(move |device| {
        let name = DeviceName {
            kind: kind.clone(),
            name: device.name,
        };
        let device = Device {
            path: path.clone(),
            common: common.clone(),
            edits: Arc::new(device.container_edits),
        };
        (name, device)
    })
}

/// Files with one of the extensions, by name; none where there is no directory.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if matches!(extension(&path), "json" | "yaml" | "yml") && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn extension(path: &Path) -> &str {
    path.extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default()
}

fn read(path: &Path) -> Result<(Kind, Document), FileError> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file").into());
    }
    if metadata.len() > MAX_SIZE {
        return Err(FileError::TooLong);
    }
    let text = fs::read_to_string(path)?;
    Ok(match extension(path) {
        "json" => Document::from_json(&text)?,
        _ => Document::from_yaml(&text)?,
    })
}
