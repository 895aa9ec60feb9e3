//! Seccomp profiles: from the JSON of an OCI or Docker profile to the program the kernel runs.
//!
//! A [`Profile`] is what somebody wrote down; [`compile`] decides which of its rules concern a
//! process with certain capabilities on a certain kernel, hands them to libseccomp and returns a
//! [`Filter`]: bytes and flags for `seccomp(2)`. Loading it is the business of whoever becomes
//! the process.
//!
//! Map: `profile` the document and its reading; `select` which rules apply to whom; `arch`
//! architectures and their names; [`compile`] rules to a program; `newer` system calls that
//! libseccomp does not know; `decision` what a program decides and `search` a shorter one that decides
//! the same, of `instruction`s; `plain` rules for a runtime that compiles them itself; [`runtime_default`] our own profile.
//!
//! Invariants: nothing a profile says is dropped in silence but what the formats say to ignore
//! (unknown fields, system calls no kernel of this architecture has); the same profile for the
//! same [`Subject`] is the same program.

#![forbid(unsafe_code)]

mod arch;
mod compile;
mod decision;
mod default;
mod instruction;
mod newer;
mod plain;
mod profile;
mod search;
mod select;

pub use arch::architectures;
pub use compile::{CompileError, Filter, compile};
pub use default::{VERSION, runtime_default};
pub use profile::{ACTIONS, Action, FLAGS, Listener, OPERATORS, Profile, ProfileError};
pub use select::Subject;
