//! What pods and containers use, in the words of the CRI.
//!
//! Everything here is a pure function of what the kernel's files say: who opens them, and when, is
//! the caller's business ([`Files`]). Units are those of the kernel until a message of the CRI is
//! made: bytes and microseconds.
//!
//! Map: [`cpu`], [`memory`], [`pressure`], [`io`] and [`network`] are parsers, one for each kind of
//! file; [`usage`] puts together what one cgroup uses, [`detail`] what only metrics are made of;
//! [`rate`] makes nano cores from samples; [`metric`] has the names that cAdvisor gave to
//! metrics, and their values.
//!
//! Invariants: what the kernel does not say is absent, never zero; a file that cannot be
//! understood is as good as none; every metric that has a descriptor can have a value, and has as
//! many label values as the descriptor has keys.

#![forbid(unsafe_code)]

pub mod cpu;
pub mod detail;
mod flat;
pub mod io;
pub mod memory;
pub mod metric;
pub mod network;
pub mod pressure;
pub mod process;
pub mod rate;
pub mod usage;

pub use detail::Detail;
pub use network::Interface;
pub use rate::Rate;
pub use usage::Usage;

use skiff_cri::v1 as cri;

/// The files of one cgroup.
pub trait Files {
    /// The content of a file; `None` when there is none or it cannot be read. It is overwritten by
    /// the next call.
    fn read(&mut self, name: &str) -> Option<&str>;
}

fn value(value: u64) -> Option<cri::UInt64Value> {
    Some(cri::UInt64Value { value })
}
