use skiff_shim_proto::message::{FailureKind, Reply};

use crate::failure;
use crate::peers::Asker;
use crate::poll::Key;
use crate::process_tree::Hunt;
use crate::shim::{Hunted, Now, Shim};

impl Shim {
    /// Kills the process of an exec and everything descended from it. Answered when that is done.
    pub(crate) fn kill_exec(&mut self, asker: Asker, exec_id: u64) -> Now {
        let key = self
            .execs
            .iter()
            .find(|(_, exec)| exec.id == exec_id)
            .map(|(&key, _)| key)
            .ok_or_else(|| {
                failure::new(
                    FailureKind::NotFound,
                    format!("no exec {exec_id} in this pod"),
                )
            })?;
        self.hunt_exec(key, Some(asker));
        self.hunt();
        Ok(None)
    }

    /// Kills the execs of a connection that is closed: their output went with it, and nobody is
    /// left to end them.
    pub(crate) fn abandon_execs_of(&mut self, connection: Key) {
        let keys: Vec<Key> = self
            .execs
            .iter()
            .filter(|(_, exec)| exec.asker.connection == connection)
            .map(|(&key, _)| key)
            .collect();
        for key in keys {
            self.hunt_exec(key, None);
        }
    }

    fn hunt_exec(&mut self, key: Key, asker: Option<Asker>) {
        let Some(exec) = self.execs.get_mut(&key) else {
            return;
        };
        exec.leave_client(&self.poll);
        if exec
            .process
            .external()
            .is_some_and(|outsider| outsider.doom(asker))
        {
            return;
        }
        match self.containers.get(&exec.container) {
            Some(container) => {
                let hunt = Hunt::new(exec.process.pid(), &container.cgroup);
                self.hunts.push(Hunted { hunt, asker });
            }
            // Removed with everything in it.
            None => {
                if let Some(asker) = asker {
                    self.peers.answer(&self.poll, asker, Ok(Reply::Done));
                }
            }
        }
        self.finish_exec(key);
    }

    /// Takes every hunt one look further.
    pub(crate) fn hunt(&mut self) {
        let mut hunts = std::mem::take(&mut self.hunts);
        hunts.retain_mut(|hunted| {
            let answer = match hunted.hunt.look() {
                Ok(false) => return true,
                Ok(true) => Ok(Reply::Done),
                Err(e) => Err(failure::of(&e)),
            };
            if let Some(asker) = hunted.asker {
                self.peers.answer(&self.poll, asker, answer);
            }
            false
        });
        self.hunts = hunts;
    }
}
