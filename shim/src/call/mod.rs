//! What a shim can be asked, one call per file.

mod adopt;
mod attach;
pub(crate) mod create;
mod delete;
mod dial;
pub(crate) mod exec;
mod kill;
mod kill_exec;
mod reopen_log;
mod resize;
mod shutdown;
mod start;
mod state;
pub(crate) mod update;
