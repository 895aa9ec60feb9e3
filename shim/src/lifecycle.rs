//! What happens to containers: carries out what their state machine says.

use std::time::{Duration, Instant};

use skiff_runtime::{Progress, Timing, cgroup};
use skiff_shim_proto::message::{CreateTook, Event, Failure, FailureKind, Reply};

use crate::container::{Action, Ended, Exit, Input, Removal, State, step};
use crate::log::Stream;
use crate::poll::Key;
use crate::shim::Shim;
use crate::{clock, failure, record};

/// Pause between attempts to write an exit record.
const RECORD_PAUSE: Duration = Duration::from_secs(1);

impl Shim {
    /// Takes a container one step on, or says why not.
    pub(crate) fn advance(&mut self, key: Key, input: Input) -> Result<(), Failure> {
        let Some(container) = self.containers.get_mut(&key) else {
            return Ok(());
        };
        let (next, actions) = step(container.state, input).map_err(|denied| {
            failure::new(
                FailureKind::InvalidState,
                format!("container {}: {denied}", container.id),
            )
        })?;
        container.state = next;
        for action in actions {
            self.perform(key, *action);
        }
        Ok(())
    }

    /// Takes a container one step on because of something that has happened to it. What does not
    /// fit its state any more is old news.
    pub(crate) fn happened_to(&mut self, key: Key, input: Input) {
        let _ = self.advance(key, input);
    }

    fn perform(&mut self, key: Key, action: Action) {
        match action {
            Action::AnswerCreate => self.answer_create(key),
            Action::LetGo => self.let_go(key),
            Action::AnswerStart => self.answer_start(key, None),
            Action::KillAll => self.kill_all(key),
            Action::Conclude => self.conclude(key),
            Action::Remove if self.is_outside(key) => self.delete_outside(key),
            Action::Remove => {
                let now = Instant::now();
                if let Some(container) = self.containers.get_mut(&key) {
                    container.removal = Some(Removal::new(now));
                }
                self.try_remove(key, now);
            }
        }
    }

    /// Removes a container that nobody waits for.
    pub(crate) fn doom(&mut self, key: Key) {
        self.happened_to(key, Input::Delete);
    }

    /// Hears what the child that becomes a container has to say. Gives whether there was
    /// anything, after which there may be more.
    pub(crate) fn container_news(&mut self, key: Key) -> bool {
        let Some(container) = self.containers.get_mut(&key).filter(|c| c.expects_news) else {
            return false;
        };
        let Some(init) = container.process.own() else {
            return false;
        };
        let progress = init.progress();
        if !matches!(progress, Ok(Progress::Building | Progress::Ready { .. })) {
            self.poll.remove(init.status_fd());
            container.expects_news = false;
        }
        match progress {
            Ok(Progress::Building) => return false,
            Ok(Progress::Ready { console }) => {
                let output = &mut container.output;
                let read = console.map_or(Ok(()), |fd| {
                    output.read(&self.poll, key, Stream::Stdout, fd)
                });
                match read {
                    Ok(()) => self.happened_to(key, Input::Built),
                    Err(e) => self.give_up(key, failure::system("watch the terminal", &e)),
                }
            }
            Ok(Progress::Running { .. }) => {
                container.started_at = clock::now();
                container.exec_took = container.let_go.map(|at| at.elapsed());
                self.happened_to(key, Input::Executed);
            }
            // It exits by itself; the rest follows when it is reaped.
            Ok(Progress::Failed(reason)) => container.failure = Some(failure::of_child(&reason)),
            Err(e) => self.give_up(key, failure::of(&e)),
        }
        true
    }

    /// Makes an end to a child that cannot go on; the rest follows when it is reaped.
    pub(crate) fn give_up(&mut self, key: Key, why: Failure) {
        if let Some(container) = self.containers.get_mut(&key) {
            container.failure.get_or_insert(why);
            self.kill_all(key);
        }
    }

    /// The first process of a container is reaped.
    pub(crate) fn container_ended(&mut self, key: Key, ended: Ended) {
        // What it said before it ended was said before.
        while self.container_news(key) {}
        if let Some(container) = self.containers.get_mut(&key) {
            container.ended = Some(ended);
            if std::mem::take(&mut container.expects_news)
                && let Some(init) = container.process.own()
            {
                self.poll.remove(init.status_fd());
            }
            // What comes of the command of another runtime says what this end means.
            if container
                .process
                .external()
                .is_some_and(|outsider| outsider.is_busy())
            {
                return;
            }
        }
        self.happened_to(key, Input::Died);
    }

    fn answer_create(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let Some(asker) = container.creator.take() {
            let reply = Reply::Created {
                pid: container.process.pid(),
                start_time: container.start_time,
                took: container
                    .process
                    .own()
                    .and_then(|init| init.timing())
                    .map(took),
            };
            self.peers.answer(&self.poll, asker, Ok(reply));
        }
    }

    fn let_go(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        container.let_go = Some(Instant::now());
        let Some(init) = container.process.own() else {
            return self.start_outside(key);
        };
        if let Err(e) = init.start() {
            self.give_up(key, failure::of(&e));
        }
    }

    /// Answers whoever waits for the start, if somebody still does.
    fn answer_start(&mut self, key: Key, failure: Option<Failure>) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(asker) = container.starter.take() else {
            return;
        };
        let started_at = container.started_at;
        let news = failure.is_none().then(|| Event::Started {
            id: container.id.clone(),
            started_at,
        });
        let took = container.exec_took.map(clock::nanoseconds);
        let answer = failure.map_or(Ok(Reply::Started { started_at, took }), Err);
        if !self.peers.answer(&self.poll, asker, answer)
            && let Some(news) = news
        {
            self.peers.tell(&self.poll, &news);
        }
    }

    /// Kills everything in a container's cgroup, and its first process wherever it is.
    fn kill_all(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if container.ended.is_none() {
            // It can only have ended already.
            let _ = container.process.signal(libc::SIGKILL);
        }
        container.updates.kill();
        if !matches!(container.state, State::Stopped | State::Removing)
            && let Some(outsider) = container.process.external()
        {
            outsider.kill_tool();
        }
        if let Err(e) = cgroup::kill_all(&container.cgroup) {
            let id = container.id.clone();
            self.warn(Some(&id), e.to_string());
        }
    }

    /// Logs what the container still had to say, writes its exit record and tells everyone.
    fn conclude(&mut self, key: Key) {
        let is_alone = self
            .containers
            .get(&key)
            .is_some_and(|c| c.own_pid_namespace);
        if !is_alone {
            self.kill_all(key);
        }
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let now = clock::now();
        let notices = container.output.finish(&self.poll, &mut self.buffer, now);
        container.stdin = None;
        self.end_sessions_in(key);
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let failure = container.failure_to_start();
        let record = container.record(failure.as_ref(), now);
        container.exit = Some(Exit {
            record: record.clone(),
            retry: Some(Instant::now()),
            warned: false,
        });
        let id = container.id.clone();
        for message in notices {
            self.warn(Some(&id), message);
        }
        self.write_record(key, Instant::now());
        self.answer_start(key, failure);
        self.peers.tell(&self.poll, &Event::Exited(record));
    }

    /// Writes the exit record if that is still to be done. A record that cannot be written now
    /// is tried again, and told to whoever asks meanwhile.
    pub(crate) fn write_record(&mut self, key: Key, now: Instant) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(exit) = &mut container.exit else {
            return;
        };
        if exit.retry.is_none_or(|at| at > now) {
            return;
        }
        let written = record::write(&container.exit_path, &exit.record);
        exit.retry = written.is_err().then_some(now + RECORD_PAUSE);
        if let Err(e) = written
            && !std::mem::replace(&mut exit.warned, true)
        {
            let message = format!("write exit record {}: {e}", container.exit_path.display());
            let id = container.id.clone();
            self.warn(Some(&id), message);
        }
    }

    /// Tries to remove the cgroup of a container whose process is reaped, and forgets the
    /// container when that works.
    pub(crate) fn try_remove(&mut self, key: Key, now: Instant) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(removal) = container.removal.filter(|removal| removal.next <= now) else {
            return;
        };
        let gone = match container.updates.writes() {
            true => Ok(false),
            false => cgroup::remove(&container.cgroup),
        };
        match gone {
            Ok(true) => self.removed(key),
            Ok(false) if now < removal.deadline => {
                container.removal = Some(removal.later(now));
                self.kill_all(key);
            }
            Ok(false) => {
                let why = format!(
                    "remove cgroup {}: its processes were killed and do not die",
                    container.cgroup.display()
                );
                self.cannot_remove(key, &failure::new(FailureKind::System, why));
            }
            Err(e) => self.cannot_remove(key, &failure::of(&e)),
        }
    }

    fn removed(&mut self, key: Key) {
        self.happened_to(key, Input::Removed);
        let Some(mut container) = self.containers.remove(&key) else {
            return;
        };
        // Whoever is told that nothing is left may look.
        container.bundle = None;
        if let Some(outsider) = container.process.external() {
            outsider.drop_bundle();
        }
        if let Some(asker) = container.creator.take() {
            let failure = container.failure_to_create();
            self.peers.answer(&self.poll, asker, Err(failure));
        }
        for asker in container.updates.into_askers() {
            let failure = failure::no_container(&container.id);
            self.peers.answer(&self.poll, asker, Err(failure));
        }
        for asker in container.removers {
            self.peers.answer(&self.poll, asker, Ok(Reply::Done));
        }
        self.end_if_empty();
    }

    /// Answers everyone who waits; another Delete tries again.
    fn cannot_remove(&mut self, key: Key, why: &Failure) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        container.removal = None;
        let creator = container
            .creator
            .take()
            .map(|asker| (asker, container.failure_to_create()));
        let removers = std::mem::take(&mut container.removers);
        if let Some((asker, failure)) = creator {
            self.peers.answer(&self.poll, asker, Err(failure));
        }
        let enders = std::mem::take(&mut self.enders);
        for asker in removers.into_iter().chain(enders) {
            self.peers.answer(&self.poll, asker, Err(why.clone()));
        }
    }
}

/// What a creation that has come to its end has taken.
fn took(timing: Timing) -> CreateTook {
    CreateTook {
        rootfs: clock::nanoseconds(timing.rootfs),
        cgroup: clock::nanoseconds(timing.cgroup),
        clone: clock::nanoseconds(timing.clone),
        init: clock::nanoseconds(timing.cloned.elapsed()),
    }
}
