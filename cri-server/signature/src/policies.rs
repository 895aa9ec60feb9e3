//! The policies of a node: files, kept as long as they do not change.
//!
//! A namespace's policy is the file of its name in a directory; without one the policy for all
//! holds, and without that everything may run. Files are looked at when they are needed, one `stat`
//! each, and read anew when they have changed, with the keys they name. A policy that has become
//! unreadable allows nothing.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::load::PolicyError;
use crate::policy::Policy;
use crate::stamp::Stamp;

/// Where policies are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The policy for all namespaces that have none of their own.
    pub policy: Option<PathBuf>,
    /// Directory of `<namespace>.json`.
    pub dir: Option<PathBuf>,
}

/// The policies of a node.
#[derive(Debug)]
pub struct Policies {
    settings: ArcSwap<Settings>,
    kept: Mutex<HashMap<PathBuf, Kept>>,
}

/// A policy and how the files that it was made of looked.
#[derive(Debug, Clone)]
struct Kept {
    files: Vec<(PathBuf, Stamp)>,
    policy: Arc<Policy>,
}

impl Policies {
    /// Reads the policy for all, which must be usable. Of the namespaces' policies those that are
    /// not are told, and harm their own namespaces only.
    pub fn open(settings: Settings) -> Result<Self, PolicyError> {
        let policies = Self {
            settings: ArcSwap::from_pointee(Settings::default()),
            kept: Mutex::default(),
        };
        policies.reload(settings)?;
        Ok(policies)
    }

    /// Takes new settings and reads every policy anew. When the policy for all cannot be used the
    /// old settings stay.
    pub fn reload(&self, settings: Settings) -> Result<(), PolicyError> {
        let mut kept = HashMap::new();
        if let Some(path) = &settings.policy {
            kept.insert(path.clone(), load(path)?);
        }
        for path in settings.dir.iter().flat_map(|dir| files(dir)) {
            match load(&path) {
                Ok(policy) => drop(kept.insert(path, policy)),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "no image is pulled and no container created in this policy's namespace"
                ),
            }
        }
        self.settings.store(Arc::new(settings));
        *self.lock() = kept;
        Ok(())
    }

    /// Whether there is no policy at all: nothing is looked at then.
    pub fn is_off(&self) -> bool {
        **self.settings.load() == Settings::default()
    }

    /// The policy for pods of a namespace, as the files say now; `None` when there is none. An
    /// empty name has the policy for all.
    pub fn of(&self, namespace: &str) -> Result<Option<Arc<Policy>>, PolicyError> {
        let settings = self.settings.load();
        if let Some(dir) = settings.dir.as_ref().filter(|_| !namespace.is_empty()) {
            if namespace.contains('/') || namespace.starts_with('.') {
                return Err(PolicyError::Namespace(namespace.to_owned()));
            }
            let path = dir.join(format!("{namespace}.json"));
            match Stamp::of(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                _ => return self.current(&path).map(Some),
            }
        }
        match &settings.policy {
            Some(path) => self.current(path).map(Some),
            None => Ok(None),
        }
    }

    fn current(&self, path: &Path) -> Result<Arc<Policy>, PolicyError> {
        let kept = self.lock().get(path).cloned();
        let unchanged = |(path, stamp): &(PathBuf, Stamp)| {
            Stamp::of(path).is_ok_and(|current| current == *stamp)
        };
        if let Some(kept) = kept.filter(|kept| kept.files.iter().all(unchanged)) {
            return Ok(kept.policy);
        }
        let kept = load(path)?;
        let policy = kept.policy.clone();
        tracing::info!(path = %path.display(), id = %policy.id(), "read a signature policy");
        self.lock().insert(path.to_owned(), kept);
        Ok(policy)
    }

    /// Held for operations on the map, never while files are read.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(path: &Path) -> Result<Kept, PolicyError> {
    let (policy, files) = Policy::load_with_files(path)?;
    Ok(Kept {
        files,
        policy: Arc::new(policy),
    })
}

/// The policies in a directory; one that is not there has none.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "cannot list the signature policies");
            return Vec::new();
        }
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect()
}
