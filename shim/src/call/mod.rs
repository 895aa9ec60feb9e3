//! What a shim can be asked, one call per file.

mod adopt;
mod create;
mod delete;
mod exec;
mod kill;
mod kill_exec;
mod reopen_log;
mod shutdown;
mod start;
mod state;
mod update;
