use skiff_runtime::cgroup;
use skiff_shim_proto::message::{Failure, Reply};

use crate::container::Input;
use crate::peers::Asker;
use crate::shim::{Now, Shim};
use crate::{failure, process_tree};

/// Largest signal number on Linux.
const LAST_SIGNAL: i32 = 64;

impl Shim {
    /// Sends a signal. One that comes when the container has ended does nothing.
    pub(crate) fn kill(&mut self, asker: Asker, id: &str, signal: i32, all: bool) -> Now {
        if !(1..=LAST_SIGNAL).contains(&signal) {
            return Err(failure::invalid(format!(
                "no signal has the number {signal}"
            )));
        }
        let key = self.find(id)?;
        self.advance(key, Input::Kill)?;
        let Some(container) = self.containers.get(&key).filter(|c| c.ended.is_none()) else {
            return Ok(Some(Reply::Done));
        };
        let failed = |e: std::io::Error| -> Failure {
            failure::system(format!("send signal {signal} to container {id}"), &e)
        };
        if all && signal == libc::SIGKILL {
            if self.is_outside(key) {
                // A runtime that makes no cgroups has left it in ours.
                container.process.signal(signal).map_err(failed)?;
            }
            cgroup::kill_all(&container.cgroup).map_err(|e| failure::of(&e))?;
        } else if self.is_outside(key) {
            // The process that we know need not be the one that is meant, but a whole kernel.
            self.kill_outside(key, asker, signal, all)?;
            return Ok(None);
        } else if all {
            process_tree::signal_all(&container.cgroup, signal).map_err(|e| failure::of(&e))?;
        } else {
            container.process.signal(signal).map_err(failed)?;
        }
        Ok(Some(Reply::Done))
    }
}
