//! What readers see of an image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use skiff_signature::{Evidence, Policy, Rejection};

use skiff_reference::{Digest, Reference};

/// An image on this node. Immutable: a change publishes another one.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of its configuration. The one name that CRI's `image_ref`, `Image.id` and
    /// `image_id` all carry.
    pub id: Digest,
    /// `registry/repository:tag`, sorted.
    pub repo_tags: Vec<String>,
    /// `registry/repository@digest` of the manifest or index that was pulled, sorted.
    pub repo_digests: Vec<String>,
    /// Disk space of the layers and the configuration in bytes; layers shared with other images
    /// are counted in each.
    pub size: u64,
    /// How its containers run unless the pod says otherwise.
    pub config: ImageConfig,
    /// Directories of the layers, uppermost first, as an overlay wants its lower directories.
    pub layers: Vec<PathBuf>,
    /// Never to be removed to free disk space.
    pub pinned: bool,
    /// What pulls under signature policies found of its signatures, under whichever names.
    pub signatures: Vec<Evidence>,
}

impl Image {
    /// Whether the image may be had by a name, as far as its signatures are known here.
    pub fn passes(&self, policy: &Policy, name: &Reference) -> Result<(), Rejection> {
        let digests: Vec<Digest> = self.signatures.iter().map(|found| found.digest).collect();
        policy.check(name, &digests, &self.signatures)
    }
}

/// The `config` object of an image's configuration. Absent and null members are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user[:group]`, by name or number; empty means root.
    #[serde(deserialize_with = "null_is_empty")]
    pub user: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "null_is_empty")]
    pub env: Vec<String>,
    /// First words of the command.
    #[serde(deserialize_with = "null_is_empty")]
    pub entrypoint: Vec<String>,
    /// Further words, replaced by a pod's `args`.
    #[serde(deserialize_with = "null_is_empty")]
    pub cmd: Vec<String>,
    /// Working directory; empty means `/`.
    #[serde(deserialize_with = "null_is_empty")]
    pub working_dir: String,
    /// Signal that asks the container to stop, by name or number; empty means SIGTERM.
    #[serde(deserialize_with = "null_is_empty")]
    pub stop_signal: String,
    /// Paths that the image wants to be volumes.
    #[serde(deserialize_with = "keys")]
    pub volumes: Vec<String>,
    /// Labels.
    #[serde(deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<String, String>,
}

pub(crate) fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A set as Go writes it: an object whose values are empty objects.
fn keys<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let set = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(deserializer)?;
    Ok(set.unwrap_or_default().into_keys().collect())
}
