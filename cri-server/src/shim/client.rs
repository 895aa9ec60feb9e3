//! Requests to a shim and what it tells unasked.
//!
//! Any number of callers share one connection. One task reads it: a reply goes to the caller that
//! waits for its number, an event to the pod. When the connection ends, every waiting caller and
//! the pod learn of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skiff_shim_proto::frame::{self, FrameError};
use skiff_shim_proto::message::{
    Adopt, Attach, Call, Create, CreateTook, Event, Exec, Failure, Message, PodState, Reply,
    Request, Resize, Update,
};
use skiff_shim_proto::{CONFINES, PROTOCOL};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::ShimError;
use super::process::ProcessId;
use crate::watch::watch;

/// Longest wait for an answer, but for those that come when something else ends: an exec's process, an
/// attached session, the kernel's reclaim for a lower limit.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pause before a socket is tried again that a shim has not read for so long that it is full. To be
/// told when there is room would mean to be woken by every message that the shim does read, on the
/// processor that it needs.
const FULL: Duration = Duration::from_millis(10);

/// What a shim tells unasked.
#[derive(Debug)]
pub enum ShimEvent {
    /// Something happened in the pod.
    Event(Event),
    /// The connection has ended. Nothing follows.
    Closed,
}

/// Where a shim's events arrive, in its order.
pub type Events = mpsc::UnboundedReceiver<ShimEvent>;

/// A connection to one shim. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct Client(Arc<Connection>);

struct Connection {
    channel: Arc<Channel>,
    reader: AbortHandle,
}

struct Channel {
    shim: String,
    /// The protocol that the shim speaks, once it has said so.
    protocol: AtomicU32,
    socket: AsyncFd<OwnedFd>,
    next_seq: AtomicU64,
    next_exec: AtomicU64,
    /// Callers by the number of their request; `None` once the connection has ended.
    waiting: Mutex<Option<Waiting>>,
}

type Waiting = HashMap<u64, oneshot::Sender<Answer>>;

/// What a shim answers, with its descriptors.
type Answer = Result<(Reply, Vec<OwnedFd>), Failure>;

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.0.channel.shim)
    }
}

impl Client {
    /// Talks over `socket`, which is made non-blocking. Needs a tokio runtime.
    pub fn new(shim: &str, socket: OwnedFd) -> Result<(Self, Events), ShimError> {
        let failed = |source: std::io::Error| ShimError::Frame {
            shim: shim.into(),
            source: FrameError::Io(source),
        };
        rustix::io::ioctl_fionbio(&socket, true).map_err(|e| failed(e.into()))?;
        let channel = Arc::new(Channel {
            shim: shim.into(),
            protocol: AtomicU32::new(PROTOCOL),
            socket: watch(socket, Interest::READABLE).map_err(failed)?,
            next_seq: AtomicU64::new(1),
            // Unique in the life of the shim, which may have served an earlier daemon.
            next_exec: AtomicU64::new(crate::clock::now().unsigned_abs()),
            waiting: Mutex::new(Some(HashMap::new())),
        });
        let (events, receiver) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read(Arc::clone(&channel), events)).abort_handle();
        Ok((Self(Arc::new(Connection { channel, reader })), receiver))
    }

    /// The shim's id.
    pub fn shim(&self) -> &str {
        &self.0.channel.shim
    }

    /// Takes note of the protocol that the shim says it speaks; one of the future is an error.
    pub fn speaks(&self, protocol: u32) -> Result<(), ShimError> {
        if protocol > PROTOCOL {
            return Err(ShimError::Newer {
                shim: self.shim().into(),
                found: protocol,
                known: PROTOCOL,
            });
        }
        self.0.channel.protocol.store(protocol, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses what the shim would pass over and go on without: the container would not be
    /// confined, or lack its images.
    fn check_create(&self, create: &Create) -> Result<(), ShimError> {
        let protocol = self.0.channel.protocol.load(Ordering::Relaxed);
        if protocol >= CONFINES || create.seccomp.is_none() && create.images.is_empty() {
            return Ok(());
        }
        let what = match create.seccomp {
            Some(_) => "confine a container by seccomp",
            None => "mount images",
        };
        Err(ShimError::Older {
            shim: self.shim().into(),
            what,
            found: protocol,
            needed: CONFINES,
        })
    }

    /// Makes a spare the shim of a pod; returns the pid of its shared PID namespace's init, and
    /// how long it took, if the shim tells.
    pub async fn adopt(&self, adopt: Adopt) -> Result<(Option<i32>, Option<Duration>), ShimError> {
        match self.call("adopt", Call::Adopt(adopt)).await? {
            Reply::Adopted { init_pid, took } => Ok((init_pid, took.map(Duration::from_nanos))),
            _ => Err(self.unexpected("adopt")),
        }
    }

    /// Builds a container; returns the pid and start time of its first process, and how long its
    /// parts took, if the shim tells. `program` is that of [`Create::seccomp`].
    pub async fn create(
        &self,
        create: Create,
        program: Option<Arc<OwnedFd>>,
    ) -> Result<(ProcessId, Option<CreateTook>), ShimError> {
        self.check_create(&create)?;
        let call = Call::Create(Box::new(create));
        let fds = program.into_iter().collect();
        match self.call_with("create", call, fds).await? {
            Reply::Created {
                pid,
                start_time,
                took,
            } => Ok((ProcessId { pid, start_time }, took)),
            _ => Err(self.unexpected("create")),
        }
    }

    /// Lets a created container run; returns when it began, in nanoseconds since the epoch, and how
    /// long its exec took, if the shim tells.
    pub async fn start(&self, id: &str) -> Result<(i64, Option<Duration>), ShimError> {
        match self.call("start", Call::Start { id: id.into() }).await? {
            Reply::Started { started_at, took } => Ok((started_at, took.map(Duration::from_nanos))),
            _ => Err(self.unexpected("start")),
        }
    }

    /// A number for [`Exec::exec_id`] and [`Client::kill_exec`].
    pub fn exec_id(&self) -> u64 {
        self.0.channel.next_exec.fetch_add(1, Ordering::Relaxed)
    }

    /// Runs a further process and waits for its end without a limit; returns its exit code.
    pub async fn exec(&self, exec: Exec, fds: Vec<OwnedFd>) -> Result<i32, ShimError> {
        match self.0.channel.ask(Call::Exec(Box::new(exec)), fds).await? {
            Reply::ExecExited { code } => Ok(code),
            _ => Err(self.unexpected("exec")),
        }
    }

    /// Kills a running exec with all its descendants.
    pub async fn kill_exec(&self, exec_id: u64) -> Result<(), ShimError> {
        self.done("kill exec", Call::KillExec { exec_id }).await
    }

    /// Sends a signal to the first process of a container, or to all.
    pub async fn kill(&self, id: &str, signal: i32, all: bool) -> Result<(), ShimError> {
        self.done(
            "kill",
            Call::Kill {
                id: id.into(),
                signal,
                all,
            },
        )
        .await
    }

    /// Kills what is left of a container and forgets it.
    pub async fn delete(&self, id: &str) -> Result<(), ShimError> {
        self.done("delete", Call::Delete { id: id.into() }).await
    }

    /// Changes a container's limits, all or none. Waits without a limit: the shim makes the change
    /// whether somebody waits or not, and what has come of it must be recorded.
    pub async fn update(&self, update: Update) -> Result<(), ShimError> {
        let call = Call::Update(Box::new(update));
        match self.0.channel.ask(call, Vec::<OwnedFd>::new()).await? {
            Reply::Done => Ok(()),
            _ => Err(self.unexpected("update")),
        }
    }

    /// Attaches pipes to a container and waits for the end of the session without a limit.
    pub async fn attach(&self, attach: Attach, fds: Vec<OwnedFd>) -> Result<(), ShimError> {
        match self.0.channel.ask(Call::Attach(attach), fds).await? {
            Reply::Done => Ok(()),
            _ => Err(self.unexpected("attach")),
        }
    }

    /// Changes the size of a terminal.
    pub async fn resize(&self, resize: Resize) -> Result<(), ShimError> {
        self.done("resize", Call::Resize(resize)).await
    }

    /// Connects to a port of the pod; the socket does not block.
    pub async fn dial(&self, port: u16) -> Result<OwnedFd, ShimError> {
        let no_fds = Vec::<OwnedFd>::new();
        let answer = self.0.channel.ask_for_fds(Call::Dial { port }, no_fds);
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        match answer.map_err(|_| self.silent("dial"))?? {
            (Reply::Dialed, fds) => fds
                .into_iter()
                .next()
                .ok_or_else(|| self.unexpected("dial")),
            _ => Err(self.unexpected("dial")),
        }
    }

    /// Opens a container's log anew.
    pub async fn reopen_log(&self, id: &str) -> Result<(), ShimError> {
        self.done("reopen log", Call::ReopenLog { id: id.into() })
            .await
    }

    /// Asks for the pod and its containers.
    pub async fn state(&self) -> Result<PodState, ShimError> {
        match self.call("state", Call::State).await? {
            Reply::State(state) => {
                self.speaks(state.protocol)?;
                Ok(state)
            }
            _ => Err(self.unexpected("state")),
        }
    }

    /// Ends the pod and the shim.
    pub async fn shutdown(&self) -> Result<(), ShimError> {
        self.done("shutdown", Call::Shutdown).await
    }

    async fn done(&self, name: &'static str, call: Call) -> Result<(), ShimError> {
        match self.call(name, call).await? {
            Reply::Done => Ok(()),
            _ => Err(self.unexpected(name)),
        }
    }

    async fn call(&self, name: &'static str, call: Call) -> Result<Reply, ShimError> {
        self.call_with::<OwnedFd>(name, call, Vec::new()).await
    }

    async fn call_with<F: AsFd>(
        &self,
        name: &'static str,
        call: Call,
        fds: Vec<F>,
    ) -> Result<Reply, ShimError> {
        let answer = self.0.channel.ask(call, fds);
        tokio::time::timeout(PATIENCE, answer)
            .await
            .unwrap_or_else(|_| Err(self.silent(name)))
    }

    fn silent(&self, call: &'static str) -> ShimError {
        ShimError::Silent {
            shim: self.shim().into(),
            call,
            seconds: PATIENCE.as_secs(),
        }
    }

    fn unexpected(&self, call: &'static str) -> ShimError {
        ShimError::Unexpected {
            shim: self.shim().into(),
            call,
        }
    }
}

impl Channel {
    async fn ask<F: AsFd>(&self, call: Call, fds: Vec<F>) -> Result<Reply, ShimError> {
        self.ask_for_fds(call, fds).await.map(|(reply, _)| reply)
    }

    async fn ask_for_fds<F: AsFd>(
        &self,
        call: Call,
        fds: Vec<F>,
    ) -> Result<(Reply, Vec<OwnedFd>), ShimError> {
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.register(seq, sender)?;
        // A caller that gives up must not leave its entry behind.
        let _forget = Forget { channel: self, seq };
        self.send(&Request { seq, call }, &fds).await?;
        drop(fds);
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => Err(ShimError::Refused(failure)),
            Err(_) => Err(self.gone()),
        }
    }

    async fn send<F: AsFd>(&self, request: &Request, fds: &[F]) -> Result<(), ShimError> {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        loop {
            match frame::send(self.socket.get_ref(), request, &fds) {
                Ok(()) => return Ok(()),
                Err(e) if e.would_block() => tokio::time::sleep(FULL).await,
                Err(FrameError::Io(e)) if is_hang_up(&e) => return Err(self.gone()),
                Err(source) => {
                    return Err(ShimError::Frame {
                        shim: self.shim.clone(),
                        source,
                    });
                }
            }
        }
    }

    fn register(&self, seq: u64, sender: oneshot::Sender<Answer>) -> Result<(), ShimError> {
        match self.waiting().as_mut() {
            Some(waiting) => {
                waiting.insert(seq, sender);
                Ok(())
            }
            None => Err(self.gone()),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> ShimError {
        ShimError::Gone {
            shim: self.shim.clone(),
        }
    }
}

struct Forget<'a> {
    channel: &'a Channel,
    seq: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.channel.waiting().as_mut() {
            waiting.remove(&self.seq);
        }
    }
}

fn is_hang_up(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

thread_local! {
    /// Room for one packet: one for each thread and not for each shim, which may be hundreds.
    static PACKET: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

async fn read(channel: Arc<Channel>, events: mpsc::UnboundedSender<ShimEvent>) {
    loop {
        let received = PACKET.with_borrow_mut(|b| frame::recv(channel.socket.get_ref(), b));
        match received {
            Ok((Message::Reply { seq, result }, fds)) => {
                let waiting = channel.waiting().as_mut().and_then(|w| w.remove(&seq));
                if let Some(sender) = waiting {
                    let _ = sender.send(result.map(|reply| (reply, fds)));
                }
            }
            Ok((Message::Event(event), _)) => {
                let _ = events.send(ShimEvent::Event(event));
            }
            Err(e) if e.would_block() => match channel.socket.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The daemon ends, which must not look like the end of the shim.
                Err(_) => return,
            },
            Err(FrameError::Malformed(reason)) => {
                tracing::warn!(shim = channel.shim, reason, "message of a shim left out");
            }
            Err(FrameError::Closed | FrameError::Io(_)) => break,
        }
    }
    // Dropping the senders tells every caller.
    channel.waiting().take();
    let _ = events.send(ShimEvent::Closed);
}
