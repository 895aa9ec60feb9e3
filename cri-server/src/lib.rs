//! The CRI daemon.
//!
//! Map: [`grpc`] listens, counts and logs calls, and words statuses; [`rpc`] has one file for each call; [`pod`] and
//! [`container`] are the pure state machines, the records and the steps, changed by one task for
//! each pod; [`store`] finds pods and containers, [`listed`] is what lists say of them, [`stats`] knows what they use; [`events`] tells of them; [`shim`] starts and talks to shims; [`recover`]
//! brings back what an earlier daemon left; [`daemon`] ties the parts together; [`host`] knows
//! what this host can do; [`layout`], [`record`], [`ownership`], [`cgroup`] and [`netns`] are
//! about what is on disk and in the kernel; [`open_files`] is a limit; [`telemetry`] is the log and what is counted.
//!
//! What must hold: ARCHITECTURE.md, "Invariants". Above all: the daemon may be killed at any
//! instruction, and readers never wait.
//!
//! Small writes and reads of the daemon's own state are done in place: they take microseconds,
//! and handing them to another thread takes longer. What can take long (deleting trees, image
//! layers) is not done here.

#![forbid(unsafe_code)]

pub mod cgroup;
pub mod cgroup_driver;
pub mod clock;
pub mod container;
pub mod daemon;
pub mod events;
pub mod grpc;
pub mod handler;
pub mod host;
pub mod id;
pub mod layout;
pub mod listed;
pub mod netns;
pub mod open_files;
pub mod ownership;
pub mod pod;
pub mod profile;
pub mod record;
pub mod recover;
pub mod reload;
pub mod rpc;
pub mod selinux;
pub mod shim;
pub mod stats;
pub mod store;
pub mod systemd;
pub mod telemetry;
mod watch;
