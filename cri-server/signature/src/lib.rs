//! Signature policies: which images of which registries may run, and whose signatures they need.
//!
//! ```text
//! policy.json ─ document ─> Policy ─ scope ─> requirements of an image
//!                                                   │
//! <repo>:sha256-<hex>.sig ─ attached ─> Evidence ───┴─ sigstore ─> allowed, or why not
//!                                         payload, bundle (Rekor), certificate (Fulcio)
//! ```
//!
//! [`Policies`] has the files of a node: a policy for all, and one for each namespace that has its
//! own. The format is that of containers-policy.json(5). Nothing here goes to the network: whoever
//! fetches an image fetches its [`Evidence`] too, and keeps it, so that another policy can be asked
//! later.
//!
//! What must hold:
//!
//! - What a policy does not say is an error when it is read, never a rule that is left out.
//! - All of an image's requirements are met, or it is refused with the reason.
//! - Nothing that a signature says is believed before the signature is verified.
//! - No clock is asked: a certificate counts at the time that the transparency log states.

#![forbid(unsafe_code)]

mod attached;
mod bundle;
mod certificate;
mod document;
mod identity;
mod key;
mod load;
mod payload;
mod policies;
mod policy;
mod scope;
mod sigstore;
mod stamp;

pub use attached::{Attached, AttachedError, Evidence, MAX_PAYLOAD, MEDIA_TYPE, Signature, tag};
pub use bundle::Bundle;
pub use load::PolicyError;
pub use payload::Payload;
pub use policies::{Policies, Settings};
pub use policy::{Policy, Rejection};
pub use sigstore::Flaw;
