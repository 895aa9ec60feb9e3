//! Containers made by another OCI runtime (runc, crun, runsc), for pods whose handler says so.
//!
//! Everything else is as with our own: the shim has the pod's namespaces and its memory, reads the
//! output into the log, reaps the processes (it is the reaper of orphans, and the runtime's commands
//! end when they have done their part), writes the exit record. Only what a state machine's action
//! comes to differs: a command of the runtime is started, nobody waits for it, and the step is
//! taken when it is reaped.
//!
//! ```text
//!  Create ──> bundle, `create` ──reaped──> pid file, terminal ──> Built
//!  Start  ──> `start`          ──reaped──> Executed
//!  Exec   ──> `exec --detach`  ──reaped──> pid file, terminal; the process's own end is told
//!  Delete ──> KillAll; when the process is reaped: `delete --force`, then the cgroup goes
//! ```
//!
//! Map: [`command`] command lines and what comes of them; [`bundle`] what the runtime is given;
//! [`outsider`] a process that it makes; [`words`] what it says; `create`, `exec`, `steps` what is asked and what happens.
//!
//! What must hold: a process's end is not told while a command is at work on it, since the
//! command's outcome says what the end means. A process may be reaped before the command that made
//! it: how those ended is remembered until the pid file says which it was.

mod bundle;
mod command;
mod create;
mod exec;
mod outsider;
mod steps;
pub mod words;

pub(crate) use command::Tool;
pub(crate) use outsider::{Orphans, Outsider};
