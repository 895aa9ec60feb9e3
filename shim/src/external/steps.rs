//! What happens when a command of another runtime has ended.

use std::time::Instant;

use skiff_runtime::cgroup;
use skiff_runtime::oci_spec::runtime::LinuxResources;
use skiff_shim_proto::message::{Failure, Reply};

use super::command::{Line, Purpose};
use crate::container::{Ended, Input, Removal};
use crate::log::Stream;
use crate::peers::Asker;
use crate::poll::Key;
use crate::process::Process;
use crate::shim::Shim;
use crate::{clock, failure, process_tree};

impl Shim {
    /// A child was reaped. Gives whether it was a command of another runtime.
    pub(crate) fn tool_ended(&mut self, pid: i32, ended: Ended) -> bool {
        let Some(tool) = self.tools.remove(&pid) else {
            return false;
        };
        let outcome = tool.outcome(ended);
        let makes = tool.purpose.makes();
        match tool.purpose {
            Purpose::Create(key) => self.created_outside(key, outcome),
            Purpose::Start(key) => self.started_outside(key, outcome),
            Purpose::Kill(key, asker) => self.killed_outside(key, asker, outcome),
            Purpose::Update(key, asker, score) => self.updated_outside(key, asker, score, outcome),
            Purpose::Delete(key) => self.deleted_outside(key, outcome),
            Purpose::Exec(key) => self.execed_outside(key, ended, outcome),
        }
        if makes && !self.tools.values().any(|tool| tool.purpose.makes()) {
            self.orphans.forget();
        }
        true
    }

    /// A process was reaped that nobody knew: perhaps one that another runtime is making.
    pub(crate) fn orphan_ended(&mut self, pid: i32, ended: Ended) {
        if self.tools.values().any(|tool| tool.purpose.makes()) {
            self.orphans.add(pid, ended);
        }
    }

    fn created_outside(&mut self, key: Key, outcome: Result<(), Failure>) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(outsider) = container.process.external() else {
            return;
        };
        outsider.tool = None;
        let found = outcome.and_then(|()| {
            let ended = outsider.find(&mut self.orphans)?;
            Ok((ended, outsider.take_terminal()?))
        });
        match found {
            Ok((ended, terminal)) => {
                container.ended = ended;
                let pid = container.process.pid();
                // One that has ended already has none any more.
                container.start_time = process_tree::stat(pid).map_or(0, |stat| stat.start_time);
                let output = &mut container.output;
                let read = terminal.map_or(Ok(()), |fd| {
                    output.read(&self.poll, key, Stream::Stdout, fd)
                });
                if let Err(e) = read {
                    container.failure = Some(failure::system("watch the terminal", &e));
                    self.happened_to(key, Input::Died);
                    return;
                }
                self.happened_to(key, Input::Built);
                // One that is not wanted any more is ended by `delete`.
                let unwanted = self.containers.get(&key).is_some_and(|c| !c.is_born());
                if ended.is_some() || unwanted {
                    self.happened_to(key, Input::Died);
                }
            }
            Err(failure) => {
                container.failure = Some(failure);
                self.happened_to(key, Input::Died);
            }
        }
    }

    /// Has the runtime let a container run.
    pub(crate) fn start_outside(&mut self, key: Key) {
        let begun = self.run_for(key, "start", Purpose::Start(key), |line, id| line.arg(id));
        if let Err(failure) = begun {
            self.give_up(key, failure);
        }
    }

    fn started_outside(&mut self, key: Key, outcome: Result<(), Failure>) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let Some(outsider) = container.process.external() {
            outsider.tool = None;
        }
        let ended = container.ended.is_some();
        match outcome {
            Ok(()) => {
                container.started_at = clock::now();
                self.happened_to(key, Input::Executed);
            }
            Err(failure) if ended => container.failure = Some(failure),
            Err(failure) => self.give_up(key, failure),
        }
        if ended {
            self.happened_to(key, Input::Died);
        }
    }

    /// Has the runtime send a signal. Answered when it has.
    pub(crate) fn kill_outside(
        &mut self,
        key: Key,
        asker: Asker,
        signal: i32,
        all: bool,
    ) -> Result<(), Failure> {
        self.run_for(key, "kill", Purpose::Kill(key, asker), |line, id| {
            let line = if all { line.arg("--all") } else { line };
            line.arg(id).arg(signal.to_string())
        })
    }

    fn killed_outside(&mut self, key: Key, asker: Asker, outcome: Result<(), Failure>) {
        // A signal that came too late does nothing.
        let runs = self.containers.get(&key).is_some_and(|c| c.ended.is_none());
        let answer = match outcome {
            Err(failure) if runs => Err(failure),
            _ => Ok(Reply::Done),
        };
        self.peers.answer(&self.poll, asker, answer);
    }

    /// Has the runtime change limits. Answered when it has; on failure `score` is put back.
    pub(crate) fn update_outside(
        &mut self,
        key: Key,
        asker: Asker,
        limits: &LinuxResources,
        score: Option<i32>,
    ) -> Result<(), Failure> {
        let Some(container) = self.containers.get_mut(&key) else {
            return Err(failure::no_container(&key.to_string()));
        };
        let bundle = container
            .process
            .external()
            .and_then(|outsider| outsider.bundle.as_ref());
        let bundle = bundle.ok_or_else(|| failure::no_container(&container.id))?;
        let json = serde_json::to_vec(limits).map_err(Into::into);
        let path = bundle.write(&format!("limits-{}.json", asker.seq), json)?;
        let purpose = Purpose::Update(key, asker, score);
        self.run_for(key, "update", purpose, |line, id| {
            line.option("--resources", path).arg(id)
        })
    }

    fn updated_outside(
        &mut self,
        key: Key,
        asker: Asker,
        score: Option<i32>,
        outcome: Result<(), Failure>,
    ) {
        if let (Err(_), Some(score), Some(container)) = (&outcome, score, self.containers.get(&key))
        {
            // Back to where it was is always allowed.
            let pid = container.process.pid();
            let _ = cgroup::set_oom_score_adj(&container.cgroup, pid, score);
        }
        let answer = outcome.map(|()| Reply::Done);
        self.peers.answer(&self.poll, asker, answer);
        self.update_outside_ended(key);
    }

    /// Whether a container is another runtime's.
    pub(crate) fn is_outside(&self, key: Key) -> bool {
        let container = self.containers.get(&key);
        container.is_some_and(|container| matches!(container.process, Process::External(_)))
    }

    /// Has the runtime forget a container, if it is not at it; its cgroup goes afterwards.
    pub(crate) fn delete_outside(&mut self, key: Key) {
        let outsider = self.containers.get_mut(&key);
        let outsider = outsider.and_then(|container| container.process.external());
        if outsider.is_none_or(|outsider| outsider.is_busy()) {
            return;
        }
        let begun = self.run_for(key, "delete", Purpose::Delete(key), |line, id| {
            line.arg("--force").arg(id)
        });
        if let Err(failure) = begun {
            self.deleted_outside(key, Err(failure));
        }
    }

    fn deleted_outside(&mut self, key: Key, outcome: Result<(), Failure>) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let Some(outsider) = container.process.external() {
            outsider.tool = None;
        }
        let now = Instant::now();
        container.removal = Some(Removal::new(now));
        if let Err(failure) = outcome {
            // Its processes and its cgroup go all the same.
            let id = container.id.clone();
            self.warn(Some(&id), failure.message);
        }
        self.try_remove(key, now);
    }

    /// Starts a command for a container, whose id `arguments` puts where it belongs.
    fn run_for(
        &mut self,
        key: Key,
        word: &str,
        purpose: Purpose,
        arguments: impl FnOnce(Line, &str) -> Line,
    ) -> Result<(), Failure> {
        let number = self.new_key();
        let Some(runtime) = self.pod()?.external.clone() else {
            return Ok(());
        };
        let Some(container) = self.containers.get_mut(&key) else {
            return Ok(());
        };
        let Some(outsider) = container.process.external() else {
            return Ok(());
        };
        let log = outsider.bundle.as_ref().map(|bundle| bundle.log(number));
        let line = Line::new(&runtime, word, log.unwrap_or_default());
        let takes_on = purpose.takes_on();
        let (pid, tool) = arguments(line, &container.id).start(purpose)?;
        if let Some(outsider) = container.process.external()
            && takes_on
        {
            outsider.tool = Some(pid);
        }
        self.tools.insert(pid, tool);
        Ok(())
    }
}
