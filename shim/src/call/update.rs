//! Changes of limits: of one container one at a time, each made by a process of its own.
//!
//! A lower memory limit makes the kernel reclaim while the file is written, for as long as it takes
//! the memory to go to disk. Nobody else may wait for that; and of two changes that overlap, what one
//! puts back could be what the other has made.
//!
//! ```text
//!  Update ──> waiting ──clone3──> under way ──reaped──> answered, the next begins
//!                                    │ KillAll
//!                                    v
//!                                  killed ──reaped──> answered with a failure, after another process
//!                                                     has put back memory.high if the container lives
//! ```
//!
//! A limit of memory is lowered with the help of `memory.high`, which no client sets and so none would
//! put back. Which other limits have been changed a client sees, and it asks again.
//!
//! What must hold: the cgroup is not removed while a process is writing to its files, since the
//! kernel lets rmdir wait for such a write.

use std::collections::VecDeque;
use std::path::Path;

use skiff_runtime::aside::{Aside, MAX_ANSWER};
use skiff_runtime::cgroup;
use skiff_shim_proto::message::{Failure, FailureKind, Reply, Update};

use crate::container::{Ended, Input};
use crate::peers::Asker;
use crate::poll::Key;
use crate::shim::{Now, Shim};
use crate::{failure, sys};

/// Most changes of one container that may wait. A daemon sends one after the other.
const MOST: usize = 16;
/// Most of a failure's message, in bytes, that surely fits an answer once it is written as JSON.
const LONGEST: usize = MAX_ANSWER / 4;

/// Changes of one container's limits.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    now: Option<Change>,
    waiting: VecDeque<(Asker, Update)>,
}

#[derive(Debug)]
enum Change {
    /// By a process of ours.
    Own {
        asker: Asker,
        aside: Aside,
        /// `memory.high` as it was, where the limit of memory is changed.
        high: Option<String>,
    },
    /// By a command of another runtime.
    Outside,
}

impl Updates {
    /// A process of ours is writing to the cgroup.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.now, Some(Change::Own { .. }))
    }

    /// Ends the process that is writing.
    pub(crate) fn kill(&self) {
        if let Some(Change::Own { aside, .. }) = &self.now {
            // It can only have ended already.
            let _ = sys::send_signal(aside.pidfd(), libc::SIGKILL);
        }
    }

    /// Who waits, when the container is no more.
    pub(crate) fn into_askers(self) -> impl Iterator<Item = Asker> {
        self.waiting.into_iter().map(|(asker, _)| asker)
    }
}

impl Shim {
    /// Changes a container's limits; on failure they are as before. Answered when it is done.
    pub(crate) fn update(&mut self, asker: Asker, update: Update) -> Now {
        let key = self.find(&update.id)?;
        self.advance(key, Input::Update)?;
        let Some(container) = self.containers.get_mut(&key) else {
            return Err(failure::no_container(&update.id));
        };
        let waiting = &mut container.updates.waiting;
        if waiting.len() >= MOST {
            let message = format!(
                "container {}: {MOST} changes of its limits wait already",
                update.id
            );
            return Err(failure::new(FailureKind::InvalidState, message));
        }
        waiting.push_back((asker, update));
        self.next_update(key);
        Ok(None)
    }

    /// Begins the next change, if none is under way.
    fn next_update(&mut self, key: Key) {
        while let Some(container) = self.containers.get_mut(&key)
            && container.updates.now.is_none()
            && let Some((asker, update)) = container.updates.waiting.pop_front()
        {
            if let Err(failure) = self.begin_update(key, asker, update) {
                self.peers.answer(&self.poll, asker, Err(failure));
            }
        }
    }

    fn begin_update(&mut self, key: Key, asker: Asker, update: Update) -> Result<(), Failure> {
        // It may have ended while the change waited.
        self.advance(key, Input::Update)?;
        let outside = self.is_outside(key);
        let Some(container) = self.containers.get_mut(&key) else {
            return Err(failure::no_container(&update.id));
        };
        let (cgroup, first) = (&container.cgroup, container.process.pid());
        if !outside {
            let change = || report(change(cgroup, first, &update));
            let changes_memory = update.resources.memory().is_some();
            let high = changes_memory.then(|| cgroup::high(cgroup)).flatten();
            let aside = Aside::begin(change).map_err(|e| failure::of(&e))?;
            container.updates.now = Some(Change::Own { asker, aside, high });
            return Ok(());
        }
        let score = |score| cgroup::set_oom_score_adj(cgroup, first, score);
        let old = update.oom_score_adj.map(score).transpose();
        let old = old.map_err(|e| failure::of(&e))?;
        self.update_outside(key, asker, &update.resources, old)?;
        self.now_changes(key, Change::Outside);
        Ok(())
    }

    /// A child was reaped. Gives whether it was one that changed limits.
    pub(crate) fn update_ended(&mut self, pid: i32, ended: Ended) -> bool {
        let ours =
            |change: &Change| matches!(change, Change::Own { aside, .. } if aside.pid() == pid);
        let mut all = self.containers.iter_mut();
        let found = all.find(|(_, container)| container.updates.now.as_ref().is_some_and(ours));
        let Some((&key, container)) = found else {
            return false;
        };
        if let Some(Change::Own { asker, aside, high }) = container.updates.now.take() {
            let answer = match outcome(&container.id, aside, ended) {
                Ok(done) => done.map(|()| Reply::Done),
                Err(killed) => match high.and_then(|high| self.put_back(key, &high, &killed)) {
                    Some(aside) => {
                        let high = None;
                        self.now_changes(key, Change::Own { asker, aside, high });
                        return true;
                    }
                    None => Err(killed),
                },
            };
            self.peers.answer(&self.poll, asker, answer);
        }
        self.next_update(key);
        true
    }

    /// Begins to give a container its `memory.high` back, after which `killed` is said; `None` for one
    /// that is at its end, or when that is not possible.
    fn put_back(&mut self, key: Key, high: &str, killed: &Failure) -> Option<Aside> {
        self.advance(key, Input::Update).ok()?;
        let cgroup = &self.containers.get(&key)?.cgroup;
        let work = || {
            // The failure is told either way.
            let _ = cgroup::put_back_high(cgroup, high);
            said(&Err(killed.clone()))
        };
        Aside::begin(work).ok()
    }

    fn now_changes(&mut self, key: Key, change: Change) {
        if let Some(container) = self.containers.get_mut(&key) {
            container.updates.now = Some(change);
        }
    }

    /// The other runtime's command that changed limits has ended, and is answered.
    pub(crate) fn update_outside_ended(&mut self, key: Key) {
        if let Some(container) = self.containers.get_mut(&key) {
            container.updates.now = None;
        }
        self.next_update(key);
    }
}

/// Makes a change, the score first: back to where it was is always allowed.
fn change(cgroup: &Path, first: i32, update: &Update) -> Result<(), skiff_runtime::Error> {
    let score = |score| cgroup::set_oom_score_adj(cgroup, first, score);
    let old = update.oom_score_adj.map(score).transpose()?;
    cgroup::update(cgroup, &update.resources).inspect_err(|_| {
        let _ = old.map(score);
    })
}

/// What the process says of it: nothing is left to say when all went well.
fn report(done: Result<(), skiff_runtime::Error>) -> Vec<u8> {
    let done = done.map_err(|error| {
        let mut failure = failure::of(&error);
        let starts = failure.message.char_indices().map(|(at, _)| at);
        if let Some(end) = starts.take_while(|at| *at <= LONGEST).last()
            && failure.message.len() > LONGEST
        {
            failure.message.truncate(end);
        }
        failure
    });
    said(&done)
}

fn said(done: &Result<(), Failure>) -> Vec<u8> {
    // A failure is words and a number.
    serde_json::to_vec(done).unwrap_or_default()
}

/// What the process says of its change; the error is that it does not.
fn outcome(id: &str, aside: Aside, ended: Ended) -> Result<Result<(), Failure>, Failure> {
    let said = aside.answer().map_err(|e| failure::of(&e))?;
    serde_json::from_slice(&said).map_err(|_| {
        let code = ended.code;
        let message = format!(
            "container {id}: the process that changes its limits ended with exit code {code}; some \
             may have been changed"
        );
        failure::new(FailureKind::System, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_failure_fits_an_answer_and_keeps_its_kind() {
        let error = skiff_runtime::Error::invalid("linux.resources", "\\ü".repeat(MAX_ANSWER));
        let said = report(Err(error));
        assert!(said.len() <= MAX_ANSWER, "{}", said.len());
        let failure = serde_json::from_slice::<Result<(), Failure>>(&said).unwrap();
        let failure = failure.unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidArgument);
        assert!(failure.message.starts_with("linux.resources: \\ü"));
    }
}
