//! Images and snapshots: registry client, content store, unpacking, writable layers.
//!
//! [`Store`] is the entrance. Readers see immutable views; one thread (`keeper`) makes changes;
//! pulls run as many at once as there are requests and are joined where they overlap.
//!
//! What must hold:
//!
//! - What is visible is whole: layers and images are built under temporary names, verified
//!   against their digests, flushed, and renamed.
//! - A layer is named by its chain id and stored once.
//! - A layer stays as long as a container runs on it: its image may have been removed, and its
//!   record may be torn or unreadable. So nothing is deleted before all holds are known.
//! - What a registry sends is hostile until verified: sizes are bounded, archives cannot write
//!   outside their layer.
//! - Credentials come with a request, go to the registry they are for, and are not kept.

#![forbid(unsafe_code)]

mod aside;
mod auth;
mod catalog;
mod error;
mod flight;
mod image;
mod keeper;
pub mod layer;
mod layout;
mod load;
pub mod manifest;
mod merged;
mod pin;
mod pull;
pub mod registry;
mod skeleton;
mod snapshot;
mod spare;
mod store;
mod trash;
mod usage;
mod volume;

pub use auth::Auth;
pub use error::StoreError;
pub use image::{Image, ImageConfig};
pub use layer::LayerError;
pub use manifest::ManifestError;
pub use pull::{PullError, PullRequest, SignatureError};
pub use registry::{HostsError, RegistryError};
pub use skiff_reference::{Digest, DigestError, Reference, ReferenceError};
pub use snapshot::{Snapshot, Snapshots, Usage};
pub use store::{Settings, Store};
