//! Names of images and digests of content: what the image store and signature policies both speak of.
//!
//! What must hold: a name has one full form, and the full form of a full form is itself; a digest
//! that is accepted can be verified.

#![forbid(unsafe_code)]

mod digest;
mod reference;

pub use digest::{Digest, DigestError};
pub use reference::{Reference, ReferenceError};
