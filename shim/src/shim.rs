//! The event loop: what a shim knows, and who deals with what happens.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use skiff_shim_proto::message::{Call, Event, Failure, FailureKind, Reply, Request};

use crate::attach::Session;
use crate::container::{CHUNK, Container, State};
use crate::dial::Dial;
use crate::exec::Exec;
use crate::external::{Orphans, Tool};
use crate::listener::Listener;
use crate::log::Stream;
use crate::peers::{Asker, Peers};
use crate::pod::{Pod, Spare};
use crate::poll::{Key, Poll, Ready, Source};
use crate::process_tree::Hunt;
use crate::request::Incoming;
use crate::run_dir::RunDir;
use crate::{Error, clock, failure, sys};

/// Pause between two looks of a hunt, for the stopped to notice that they are.
const HUNT_PAUSE: Duration = Duration::from_millis(1);

/// Everything.
pub(crate) struct Shim {
    pub(crate) poll: Poll,
    pub(crate) peers: Peers,
    pub(crate) containers: BTreeMap<Key, Container>,
    pub(crate) execs: BTreeMap<Key, Exec>,
    pub(crate) sessions: BTreeMap<Key, Session>,
    pub(crate) dials: BTreeMap<Key, Dial>,
    pub(crate) hunts: Vec<Hunted>,
    /// Commands of another runtime under way, by their pids.
    pub(crate) tools: BTreeMap<i32, Tool>,
    pub(crate) orphans: Orphans,
    pub(crate) phase: Phase,
    /// Who waits for the pod to end.
    pub(crate) enders: Vec<Asker>,
    /// Standard input of processes that have none: /dev/null.
    pub(crate) null: OwnedFd,
    /// Scratch space for one packet or one chunk of output.
    pub(crate) buffer: Vec<u8>,
    signals: OwnedFd,
    listener: Listener,
    pub(crate) run_dir: RunDir,
    last_key: Key,
    /// To end after this round.
    pub(crate) leaving: bool,
}

/// What a shim is.
pub(crate) enum Phase {
    /// Waits to be adopted over its first connection, and ends with it.
    Spare {
        /// What is prepared.
        spare: Spare,
        /// The first connection.
        channel: Key,
    },
    /// Monitors a pod, with connections or without.
    Pod(Pod),
    /// Of no use any more.
    Spent,
}

/// A process tree about to be killed, and who waits for it.
pub(crate) struct Hunted {
    pub(crate) hunt: Hunt,
    pub(crate) asker: Option<Asker>,
}

/// What a call gives at once; `None` when its answer comes later.
pub(crate) type Now = Result<Option<Reply>, Failure>;

/// What a shim is made of.
pub(crate) struct Parts {
    pub(crate) poll: Poll,
    pub(crate) channel: OwnedFd,
    pub(crate) signals: OwnedFd,
    pub(crate) listener: Listener,
    pub(crate) null: OwnedFd,
    pub(crate) run_dir: RunDir,
    pub(crate) spare: Spare,
}

impl Shim {
    /// A spare, ready to say so.
    pub(crate) fn new(parts: Parts) -> Result<Self, Error> {
        let channel = 1;
        let mut peers = Peers::default();
        peers
            .add(&parts.poll, channel, parts.channel)
            .map_err(|e| Error::system("watch the daemon's channel on descriptor 0", e))?;
        Ok(Self {
            poll: parts.poll,
            peers,
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            sessions: BTreeMap::new(),
            dials: BTreeMap::new(),
            hunts: Vec::new(),
            tools: BTreeMap::new(),
            orphans: Orphans::default(),
            phase: Phase::Spare {
                spare: parts.spare,
                channel,
            },
            enders: Vec::new(),
            null: parts.null,
            buffer: vec![0; CHUNK.max(skiff_shim_proto::frame::INLINE + 1)],
            signals: parts.signals,
            listener: parts.listener,
            run_dir: parts.run_dir,
            last_key: channel,
            leaving: false,
        })
    }

    /// Says that it is ready and works until it is not needed any more.
    pub(crate) fn run(mut self, ready: &Event) -> Result<(), Error> {
        self.peers.tell(&self.poll, ready);
        while !self.leaving {
            let timeout = self
                .next_deadline()
                .map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let ready = self
                .poll
                .wait(timeout)
                .map_err(|e| Error::system("wait for events", e))?;
            for (source, readiness) in ready {
                self.happened(source, readiness)?;
            }
            self.settle();
            self.work_due();
            self.part_with_the_gone();
        }
        self.run_dir
            .remove()
            .map_err(|e| Error::system("remove the run directory", e))
    }

    fn happened(&mut self, source: Source, ready: Ready) -> Result<(), Error> {
        match source {
            Source::Signals => self.signalled()?,
            Source::Listener => self.connected(),
            Source::Connection(key) => {
                if ready.contains(Ready::OUT) {
                    self.peers.flush(&self.poll, key);
                }
                if !ready.difference(Ready::OUT).is_empty() {
                    self.received(key);
                }
            }
            Source::Progress(key) => {
                self.container_news(key);
            }
            Source::Stdout(key) => self.output_ready(key, Stream::Stdout),
            Source::Stderr(key) => self.output_ready(key, Stream::Stderr),
            Source::ExecProgress(key) => self.exec_news(key),
            Source::Terminal(key) | Source::TerminalInput(key) | Source::TerminalOutput(key) => {
                if let Some(exec) = self.execs.get_mut(&key) {
                    exec.copy(&self.poll);
                    self.finish_exec(key);
                }
            }
            Source::AttachInput(key) | Source::AttachStdin(key) => self.session_ready(key),
            Source::AttachStdout(key) => self.client_hung_up(key, Stream::Stdout),
            Source::AttachStderr(key) => self.client_hung_up(key, Stream::Stderr),
            Source::Dial(key) => self.dial_ready(key),
        }
        Ok(())
    }

    fn signalled(&mut self) -> Result<(), Error> {
        let signals =
            sys::take_signals(&self.signals).map_err(|e| Error::system("read the signalfd", e))?;
        // A pod ends when its daemon says so; whoever stops the daemon's service does not.
        let told_to_end = signals.iter().any(|&signal| signal != libc::SIGCHLD);
        if told_to_end && !matches!(self.phase, Phase::Pod(_)) {
            self.leaving = true;
        }
        self.reap();
        Ok(())
    }

    fn connected(&mut self) {
        match self.listener.accept() {
            Ok(None) => {}
            Ok(Some(socket)) => {
                let key = self.new_key();
                if let Err(e) = self.peers.add(&self.poll, key, socket) {
                    crate::complain(&format!("take a connection: {e}"));
                }
            }
            Err(e) => crate::complain(&format!("accept a connection: {e}")),
        }
    }

    fn received(&mut self, key: Key) {
        let received = self.peers.receive(&self.poll, key, &mut self.buffer);
        let (seq, now) = match received {
            None => return,
            Some((Incoming::Refused { seq, failure }, _)) => (seq, Err(failure)),
            Some((Incoming::Request(Request { seq, call }), fds)) => (
                seq,
                self.call(
                    Asker {
                        connection: key,
                        seq,
                    },
                    call,
                    fds,
                ),
            ),
        };
        if let Some(answer) = now.transpose() {
            self.peers.answer(
                &self.poll,
                Asker {
                    connection: key,
                    seq,
                },
                answer,
            );
        }
    }

    fn call(&mut self, asker: Asker, call: Call, fds: Vec<OwnedFd>) -> Now {
        match call {
            Call::Adopt(adopt) => self.adopt(&adopt),
            Call::Create(create) => self.create(asker, *create, fds),
            Call::Start { id } => self.start(asker, &id),
            Call::Exec(exec) => self.exec(asker, *exec, fds),
            Call::KillExec { exec_id } => self.kill_exec(asker, exec_id),
            Call::Kill { id, signal, all } => self.kill(asker, &id, signal, all),
            Call::Delete { id } => self.delete(asker, &id),
            Call::Update(update) => self.update(asker, *update),
            Call::Attach(attach) => self.attach(asker, &attach, fds),
            Call::Resize(resize) => self.resize(&resize),
            Call::Dial { port } => self.dial(asker, port),
            Call::ReopenLog { id } => self.reopen_log(&id),
            Call::State => Ok(Some(self.state())),
            Call::Shutdown => self.shutdown(asker),
        }
    }

    fn output_ready(&mut self, key: Key, stream: Stream) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let now = clock::now();
        let notice = container
            .output
            .take(&self.poll, stream, &mut self.buffer, now);
        if let Some(message) = notice {
            let id = Some(container.id.clone());
            self.peers.tell(&self.poll, &Event::Warning { id, message });
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let hunts = (!self.hunts.is_empty()).then(|| Instant::now() + HUNT_PAUSE);
        self.containers
            .values()
            .filter_map(Container::next_deadline)
            .chain(hunts)
            .min()
    }

    /// Finishes a pod that was just adopted, before any other call is read.
    fn settle(&mut self) {
        if let Phase::Pod(pod) = &mut self.phase
            && let Err(e) = pod.settle()
        {
            self.warn(None, e.to_string());
        }
    }

    /// What is to be done because its time has come. Most often nothing waits for a time, and the clock
    /// is not looked at.
    fn work_due(&mut self) {
        if self.next_deadline().is_none() {
            return;
        }
        let now = Instant::now();
        self.hunt();
        let due = |container: &Container| container.next_deadline().is_some_and(|at| at <= now);
        let keys: Vec<Key> = self
            .containers
            .iter()
            .filter(|(_, c)| due(c))
            .map(|(&key, _)| key)
            .collect();
        for key in keys {
            self.write_record(key, now);
            self.try_remove(key, now);
        }
    }

    /// Ends what was done for connections that are closed, and a spare with its channel.
    fn part_with_the_gone(&mut self) {
        for gone in self.peers.take_closed() {
            match self.phase {
                Phase::Spare { channel, .. } if channel == gone => self.leaving = true,
                _ => {}
            }
            self.abandon_execs_of(gone);
            self.end_sessions_of(gone);
            self.dials.retain(|_, dial| dial.asker.connection != gone);
            let unborn: Vec<Key> = self
                .containers
                .iter()
                .filter(|(_, c)| c.state == State::Creating)
                .filter(|(_, c)| c.creator.is_some_and(|asker| asker.connection == gone))
                .map(|(&key, _)| key)
                .collect();
            for key in unborn {
                self.doom(key);
            }
        }
    }

    /// The pod, for calls that need one.
    pub(crate) fn pod(&self) -> Result<&Pod, Failure> {
        match &self.phase {
            Phase::Pod(pod) => Ok(pod),
            _ => Err(failure::new(
                FailureKind::InvalidState,
                "this shim has no pod yet",
            )),
        }
    }

    /// The container of an id.
    pub(crate) fn find(&self, id: &str) -> Result<Key, Failure> {
        self.containers
            .iter()
            .find(|(_, container)| container.id == id)
            .map(|(&key, _)| key)
            .ok_or_else(|| failure::no_container(id))
    }

    /// A number never used before.
    pub(crate) fn new_key(&mut self) -> Key {
        self.last_key += 1;
        self.last_key
    }

    /// Tells something that nobody asked about.
    pub(crate) fn warn(&mut self, id: Option<&str>, message: String) {
        let id = id.map(str::to_owned);
        self.peers.tell(&self.poll, &Event::Warning { id, message });
    }
}
