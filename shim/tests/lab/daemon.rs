//! The daemon's side of the protocol, as far as the tests need it.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair,
};
use skiff_shim_proto::frame::{self, FrameError};
use skiff_shim_proto::message::{
    Adopt, Call, Create, Event, Failure, Message, PodState, Reply, Request,
};
use skiff_shim_proto::record::ExitRecord;

/// How long anything may take before a test fails. The slowest lab is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a shim.
pub(crate) struct Daemon {
    socket: OwnedFd,
    seq: u64,
    replies: VecDeque<(u64, Result<Reply, Failure>)>,
    pub(crate) events: VecDeque<Event>,
    buffer: Vec<u8>,
}

/// A shim with its run directory, and the daemon that started it.
pub(crate) struct Shim {
    pub(crate) process: Child,
    pub(crate) run_dir: PathBuf,
    pub(crate) daemon: Daemon,
    pub(crate) pid: i32,
    _scratch: tempfile::TempDir,
}

impl Shim {
    /// Starts a spare and waits for its first word.
    pub(crate) fn spare() -> Self {
        Self::start(&[])
    }

    /// Starts a spare for a pod with a user namespace.
    pub(crate) fn spare_with_user_namespace() -> Self {
        Self::start(&["--user-namespace"])
    }

    fn start(more: &[&str]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let run_dir = scratch.path().join("shim");
        std::fs::create_dir(&run_dir).unwrap();
        let (ours, theirs) = pair();
        let process = Command::new(env!("CARGO_BIN_EXE_skiff-shim"))
            .arg("--run-dir")
            .arg(&run_dir)
            .args(more)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(File::create(run_dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut daemon = Daemon::new(ours);
        let pid = process.id() as i32;
        match daemon.event() {
            Event::Ready {
                protocol: skiff_shim_proto::PROTOCOL,
                pid: told,
                start_time,
            } if told == pid && start_time > 0 => {}
            other => panic!("{other:?}"),
        }
        Self {
            process,
            run_dir,
            daemon,
            pid,
            _scratch: scratch,
        }
    }

    /// The shim of a pod with the host's network.
    pub(crate) fn pod() -> Self {
        let mut shim = Self::spare();
        let reply = shim.daemon.ask(Call::Adopt(host_network())).unwrap();
        assert!(
            matches!(reply, Reply::Adopted { init_pid: None, .. }),
            "{reply:?}"
        );
        shim
    }

    /// Ends the pod and looks that nothing is left.
    pub(crate) fn shutdown(mut self) {
        let reply = self.daemon.ask(Call::Shutdown);
        assert!(matches!(reply, Ok(Reply::Done)), "{reply:?}");
        self.expect_end();
    }

    /// Waits for the process to end in peace and without complaints.
    pub(crate) fn expect_end(&mut self) {
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}");
        assert!(!self.run_dir.exists(), "run directory is left");
    }

    /// What it complained about.
    pub(crate) fn complaints(&self) -> String {
        std::fs::read_to_string(self.run_dir.join("log")).unwrap()
    }

    /// A further connection, over the socket.
    pub(crate) fn connect(&self) -> Daemon {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let address = SocketAddrUnix::new(self.run_dir.join("socket")).unwrap();
        connect(&socket, &address).unwrap();
        Daemon::new(socket)
    }

    /// The daemon dies, and another one takes its place.
    pub(crate) fn restart_daemon(&mut self) {
        self.lose_daemon();
        self.daemon = self.connect();
    }

    /// The daemon dies.
    pub(crate) fn lose_daemon(&mut self) {
        self.daemon = Daemon::new(pair().0);
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // Of a test that failed. Its containers die with their cgroups at the lab's end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Daemon {
    fn new(socket: OwnedFd) -> Self {
        rustix::io::ioctl_fionbio(&socket, true).unwrap();
        Self {
            socket,
            seq: 0,
            replies: VecDeque::new(),
            events: VecDeque::new(),
            buffer: Vec::new(),
        }
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&mut self, call: Call) -> Result<Reply, Failure> {
        let seq = self.send(call, &[]);
        self.answer(seq)
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, call: Call, fds: &[BorrowedFd<'_>]) -> u64 {
        self.seq += 1;
        frame::send(
            &self.socket,
            &Request {
                seq: self.seq,
                call,
            },
            fds,
        )
        .unwrap();
        self.seq
    }

    /// Sends what is no message.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        rustix::net::send(&self.socket, bytes, rustix::net::SendFlags::empty()).unwrap();
    }

    /// Waits for the answer to a request.
    pub(crate) fn answer(&mut self, seq: u64) -> Result<Reply, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.replies.iter().position(|(other, _)| *other == seq) {
                return self.replies.remove(at).unwrap().1;
            }
            assert!(
                self.receive(deadline),
                "connection closed before answer {seq}"
            );
        }
    }

    /// Waits for the next event.
    pub(crate) fn event(&mut self) -> Event {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            assert!(self.receive(deadline), "connection closed before an event");
        }
    }

    /// Waits for a container's exit, passing over other events.
    pub(crate) fn exit(&mut self, id: &str) -> ExitRecord {
        loop {
            match self.event() {
                Event::Exited(record) if record.id == id => return record,
                _ => {}
            }
        }
    }

    /// Waits until the shim closes the connection.
    pub(crate) fn expect_close(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.receive(deadline) {}
    }

    /// The pod as the shim sees it.
    pub(crate) fn state(&mut self) -> PodState {
        match self.ask(Call::State) {
            Ok(Reply::State(state)) => state,
            other => panic!("{other:?}"),
        }
    }

    /// Takes one message; `false` when the connection is closed.
    fn receive(&mut self, deadline: Instant) -> bool {
        loop {
            match frame::recv::<Message>(&self.socket, &mut self.buffer) {
                Ok((Message::Reply { seq, result }, _)) => self.replies.push_back((seq, result)),
                Ok((Message::Event(event), _)) => self.events.push_back(event),
                Err(e) if e.would_block() => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    assert!(!left.is_zero(), "nothing was heard for {PATIENCE:?}");
                    let left = Timespec::try_from(left).unwrap();
                    poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left)).unwrap();
                    continue;
                }
                Err(FrameError::Closed | FrameError::Io(_)) => return false,
                Err(e) => panic!("{e}"),
            }
            return true;
        }
    }
}

/// Output of an exec.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) answer: Result<Reply, Failure>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Daemon {
    /// Runs a process in a container to its end, with `input` typed into it.
    pub(crate) fn exec(
        &mut self,
        exec: skiff_shim_proto::message::Exec,
        input: Option<&str>,
    ) -> Executed {
        use rustix::pipe::{PipeFlags, pipe_with};
        let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (stdin, stdout, stderr) = (input.map(|_| pipe()), pipe(), pipe());
        let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
        fds.extend(stdin.iter().map(|(reader, _)| reader.as_fd()));
        fds.push(stdout.1.as_fd());
        if !exec.terminal {
            fds.push(stderr.1.as_fd());
        }
        let seq = self.send(Call::Exec(Box::new(exec)), &fds);
        if let (Some((_, writer)), Some(input)) = (&stdin, input) {
            rustix::io::write(writer, input.as_bytes()).unwrap();
        }
        drop((stdin, stdout.1, stderr.1));
        let read = |end: OwnedFd| {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut File::from(end), &mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let (stdout, stderr) = (read(stdout.0), read(stderr.0));
        Executed {
            answer: self.answer(seq),
            stdout,
            stderr,
        }
    }

    /// Creates and starts a container.
    pub(crate) fn run(&mut self, create: Create) -> i32 {
        let id = create.id.clone();
        let pid = match self.ask(Call::Create(Box::new(create))) {
            Ok(Reply::Created {
                pid,
                start_time,
                took: Some(took),
            }) if start_time > 0 && took.clone > 0 && took.init > 0 => pid,
            other => panic!("{other:?}"),
        };
        match self.ask(Call::Start { id }) {
            Ok(Reply::Started {
                started_at,
                took: Some(1..),
            }) if started_at > 0 => pid,
            other => panic!("{other:?}"),
        }
    }
}

/// An adoption into the host's network and IPC namespaces.
pub(crate) fn host_network() -> Adopt {
    Adopt {
        pod_id: "a".repeat(64),
        netns: None,
        hostname: None,
        host_ipc: false,
        shared_pid: false,
        init_cgroup: None,
        user_namespace: None,
        sysctls: Default::default(),
        shm_size: 64 << 20,
        mount_label: None,
        external: None,
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

/// Reads a file that appears or grows until `done` is true of it.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process is there, zombies excepted.
pub(crate) fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

/// The processes of a cgroup.
pub(crate) fn processes(cgroup: &Path) -> Vec<i32> {
    let procs = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    procs
        .lines()
        .map(|line| line.parse().unwrap())
        .filter(|&pid| lives(pid))
        .collect()
}
