//! Requests, replies and events.
//!
//! The daemon numbers its requests; a shim answers each exactly once, in any order, on the
//! connection it came from. Events go to every connection.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxResources, Process, Spec};
use serde::{Deserialize, Serialize};

use crate::record::ExitRecord;

/// Most bytes of content in one entry of a log, unless [`Create::log_entry`] says otherwise: what
/// readers of logs are used to.
pub const LOG_ENTRY: NonZeroUsize = NonZeroUsize::new(16 << 10).unwrap();

/// Daemon to shim.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the daemon, unique on its connection, repeated in the reply.
    pub seq: u64,
    /// What to do.
    pub call: Call,
}

/// What a shim can be asked. A shim that does not know a call answers
/// [`FailureKind::Unsupported`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// A spare becomes the shim of a pod. After a failure it ends.
    Adopt(Adopt),
    /// Build a container up to the point before exec. Answered by [`Reply::Created`].
    /// File descriptors: the program of [`Create::seccomp`], when there is one.
    Create(Box<Create>),
    /// Let a created container exec. Answered by [`Reply::Started`], or by a failure of kind
    /// [`FailureKind::Command`] after which the container is an exited one.
    Start {
        /// Container id.
        id: String,
    },
    /// Run a further process in a running container. File descriptors: stdin if
    /// [`Exec::stdin`], then stdout, then stderr unless [`Exec::terminal`].
    /// Answered by [`Reply::ExecExited`] when the process has ended. It is killed like by
    /// [`Call::KillExec`] when the connection closes before.
    Exec(Box<Exec>),
    /// SIGKILL the process of a running exec and everything descended from it.
    KillExec {
        /// The number given in [`Exec::exec_id`].
        exec_id: u64,
    },
    /// Send a signal. Does nothing to a container that has ended.
    Kill {
        /// Container id.
        id: String,
        /// Signal number.
        signal: i32,
        /// All processes of the container (`cgroup.kill` for SIGKILL), not only the first.
        all: bool,
    },
    /// Forget a container: kill what runs, remove its cgroup, close its log. Succeeds for an
    /// unknown id.
    Delete {
        /// Container id.
        id: String,
    },
    /// Change the limits of a container that is created or running, all or none.
    Update(Box<Update>),
    /// Attach a client to a container's streams. Descriptors: pipes for stdin, stdout and stderr
    /// as far as they are asked for, in this order. What a client does not take in time it
    /// misses. Answered by [`Reply::Done`] at the end of the session: the container has ended, or
    /// the client has closed all its pipes.
    Attach(Attach),
    /// Change the size of a terminal.
    Resize(Resize),
    /// Connect to a TCP port on the pod's loopback addresses. Answered by [`Reply::Dialed`] with
    /// the connected socket, which does not block.
    Dial {
        /// The port.
        port: u16,
    },
    /// Open the log file anew at its path.
    ReopenLog {
        /// Container id.
        id: String,
    },
    /// Describe the pod and its containers. Answered by [`Reply::State`].
    State,
    /// End the pod: kill every container, let go of the namespaces, remove the socket, exit.
    Shutdown,
}

/// How a spare becomes a pod. The shim process itself lives in the pod's network, IPC and UTS
/// namespaces, so that containers inherit them and `/proc/<shim>/ns/*` names them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Adopt {
    /// Pod id, 64 hex characters.
    pub pod_id: String,
    /// Bind the network namespace here (a path under /run/netns). `None`: the host's network
    /// and UTS namespaces.
    pub netns: Option<PathBuf>,
    /// Host name in the pod's UTS namespace; unused with the host's.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Use the host's IPC namespace.
    #[serde(default)]
    pub host_ipc: bool,
    /// Make one PID namespace for all containers, with a reaping init of ours as its first
    /// process.
    #[serde(default)]
    pub shared_pid: bool,
    /// Cgroup directory for that init; unused without `shared_pid`.
    #[serde(default)]
    pub init_cgroup: Option<PathBuf>,
    /// A user namespace for all its containers, to which the pod's other namespaces belong.
    /// `None`: the host's.
    #[serde(default)]
    pub user_namespace: Option<UserNamespace>,
    /// Sysctls of the pod's namespaces, dotted names.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Size of the pod's /dev/shm in bytes; unused with `host_ipc`.
    pub shm_size: u64,
    /// SELinux label of the pod's /dev/shm; `None`: the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    /// Who makes the pod's containers and execs; `None`: the shim itself.
    #[serde(default)]
    pub external: Option<Box<ExternalRuntime>>,
}

/// Another OCI runtime, called by its command line, that of runc.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalRuntime {
    /// Its program.
    pub path: PathBuf,
    /// Arguments before the command.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Directory of the pod's own, made and removed by the shim, in which the runtime keeps what
    /// it knows of the containers (`--root`).
    pub root: PathBuf,
}

/// A pod's user namespace: how its ids read on the host. Root (id 0) is mapped. The
/// configurations of its containers have the same mappings and a user namespace without a path,
/// which means this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// User ids.
    pub uid_mappings: Vec<LinuxIdMapping>,
    /// Group ids.
    pub gid_mappings: Vec<LinuxIdMapping>,
}

/// A container to build.
#[derive(Debug, Serialize, Deserialize)]
pub struct Create {
    /// Container id, 64 hex characters.
    pub id: String,
    /// The runtime-spec configuration. Namespaces of the pod carry paths
    /// (`/proc/<shim>/ns/ipc`, `/run/netns/...`); the shim knows which of them it is in.
    /// A mount of type tmpfs at /dev/shm means the pod's shared one.
    pub spec: Spec,
    /// The root file system.
    pub rootfs: Rootfs,
    /// What the mounts of type `image` show, by their destination.
    #[serde(default)]
    pub images: BTreeMap<PathBuf, ImageVolume>,
    /// Absolute cgroup directory, made by the shim together with missing parents; limits are
    /// those of `spec.linux.resources`.
    pub cgroup: PathBuf,
    /// CRI log file, created with its directories' existing permissions; `None`: output is
    /// discarded.
    #[serde(default)]
    pub log_path: Option<PathBuf>,
    /// Most bytes of content in one entry of the log; a longer line becomes several. `None`:
    /// [`LOG_ENTRY`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_entry: Option<NonZeroUsize>,
    /// Keep a stdin open for attach. Otherwise stdin is /dev/null.
    #[serde(default)]
    pub stdin: bool,
    /// Close stdin after the first attach session.
    #[serde(default)]
    pub stdin_once: bool,
    /// The filter of all its processes, those of execs included; `spec.linux.seccomp` is not
    /// used. `None`: no filter. In a pod of another runtime it is the other way round: the
    /// specification has the profile, and there is no program.
    #[serde(default)]
    pub seccomp: Option<Seccomp>,
    /// Where the shim writes the [`ExitRecord`] when the container ends, before it tells anyone.
    pub exit_path: PathBuf,
}

/// Layers that make a root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// An overlay, made as a detached mount.
    Overlay {
        /// Lower directories, uppermost first; at least one.
        lower: Vec<PathBuf>,
        /// Upper directory.
        upper: PathBuf,
        /// Work directory, empty, on the file system of `upper`.
        work: PathBuf,
    },
    /// A directory, bind-mounted.
    Directory(PathBuf),
}

/// A compiled seccomp profile. The program travels as a sealed memfd beside the request: the
/// daemon keeps one for many containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seccomp {
    /// Length of the program, in bytes.
    pub size: u32,
    /// Flags of seccomp(2).
    pub flags: u32,
    /// Who is asked, when the program has notifications.
    #[serde(default)]
    pub listener: Option<SeccompListener>,
}

/// The agent of `SCMP_ACT_NOTIFY`, runtime-spec `linux.seccomp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompListener {
    /// Its unix socket.
    pub path: PathBuf,
    /// Handed to it as it is.
    pub metadata: String,
}

/// An image to be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageVolume {
    /// Directories of its layers, uppermost first; at least one.
    pub layers: Vec<PathBuf>,
    /// The file or directory of it to be mounted, if not its root.
    #[serde(default)]
    pub sub_path: Option<PathBuf>,
}

/// A further process in a container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exec {
    /// Chosen by the daemon, unique in the life of the shim.
    pub exec_id: u64,
    /// Container id.
    pub id: String,
    /// Complete: user, capabilities, environment, working directory, arguments.
    pub process: Process,
    /// The first descriptor is the process's stdin; otherwise it is /dev/null.
    #[serde(default)]
    pub stdin: bool,
    /// A terminal is wanted: descriptors are stdin (if any) and stdout, copied by the shim.
    #[serde(default)]
    pub terminal: bool,
}

/// A client of a container's streams.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attach {
    /// Container id.
    pub id: String,
    /// The first descriptor is what the client types: a pipe, or for a client that is shown nothing a
    /// stream socket, which is shut down at the end of input and closed when the client has gone.
    #[serde(default)]
    pub stdin: bool,
    /// The next descriptor takes the container's output.
    #[serde(default)]
    pub stdout: bool,
    /// The next descriptor takes the container's error output; nothing with a terminal.
    #[serde(default)]
    pub stderr: bool,
}

/// A terminal's new size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resize {
    /// Whose terminal.
    pub of: TerminalOf,
    /// In characters.
    pub columns: u16,
    /// In characters.
    pub rows: u16,
}

/// Whose terminal is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TerminalOf {
    /// That of a container, by its id.
    Container(String),
    /// That of an exec, by [`Exec::exec_id`]; it may still be in the making.
    Exec(u64),
}

/// New limits for a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Update {
    /// Container id.
    pub id: String,
    /// Limits to be set; what is absent stays as it is. No device rules.
    pub resources: LinuxResources,
    /// Score for all processes that have the first one's, -1000 to 1000.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
}

/// Shim to daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The answer to the request of that number.
    Reply {
        /// The request's number.
        seq: u64,
        /// Its outcome.
        result: Result<Reply, Failure>,
    },
    /// Something happened.
    Event(Event),
}

/// A successful answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done, nothing to say.
    Done,
    /// The pod stands.
    Adopted {
        /// Host pid of the first process of a shared PID namespace.
        init_pid: Option<i32>,
        /// How long it took, in nanoseconds.
        #[serde(default)]
        took: Option<u64>,
    },
    /// The container waits for [`Call::Start`].
    Created {
        /// Host pid of its first process.
        pid: i32,
        /// Field 22 of /proc/pid/stat, in clock ticks after boot: tells a reused pid.
        start_time: u64,
        /// How long its parts took.
        #[serde(default)]
        took: Option<CreateTook>,
    },
    /// The container's command runs.
    Started {
        /// Nanoseconds since the epoch.
        started_at: i64,
        /// From being let go to the command's execution, in nanoseconds.
        #[serde(default)]
        took: Option<u64>,
    },
    /// The exec's process has ended.
    ExecExited {
        /// 0-255; 128 + signal for a signalled process.
        code: i32,
    },
    /// The connection stands; its socket comes along.
    Dialed,
    /// The pod and its containers.
    State(PodState),
}

/// How long the parts of a container's creation took, in nanoseconds and in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateTook {
    /// Its root file system and mounts, as far as they are made outside of it.
    pub rootfs: u64,
    /// Its cgroup with its limits.
    pub cgroup: u64,
    /// Its first process with its namespaces.
    pub clone: u64,
    /// What that process builds, up to the point before exec.
    pub init: u64,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure, for the caller to act on.
    pub kind: FailureKind,
    /// The whole story: what was attempted, on which path, and the system's answer.
    pub message: String,
}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No such container or exec.
    NotFound,
    /// The id is taken.
    AlreadyExists,
    /// The call does not fit the container's state.
    InvalidState,
    /// The request cannot be meant (bad spec, bad path).
    InvalidArgument,
    /// The command cannot be executed; the exit code that a shell would give: 127 when it does
    /// not exist, 126 otherwise.
    Command {
        /// 126 or 127.
        exit_code: i32,
    },
    /// A call of a newer protocol.
    Unsupported,
    /// The kernel or the file system refused.
    System,
}

/// Something that happened without being asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// First word of a spare on its channel: namespaces are made, [`Call::Adopt`] may come.
    Ready {
        /// [`crate::PROTOCOL`] of the shim.
        protocol: u32,
        /// The shim's pid.
        pid: i32,
        /// The shim's start time, as in [`Reply::Created`].
        start_time: u64,
    },
    /// A container's command runs, and whoever asked for that is not there any more to be told:
    /// a daemon that died meanwhile. The next one may have seen the container before it ran.
    Started {
        /// Container id.
        id: String,
        /// Nanoseconds since the epoch.
        started_at: i64,
    },
    /// A container has ended and its record is written.
    Exited(ExitRecord),
    /// An error that nobody asked about, such as a log disk that is full; told once per cause.
    Warning {
        /// The container, when there is one.
        id: Option<String>,
        /// What went wrong.
        message: String,
    },
    /// No container can be run in the pod any more; it can only be ended. Told once, and to
    /// whoever asks for the state: [`PodState::broken`]. What ends with it is told as ever.
    Broken {
        /// Why.
        reason: String,
    },
}

/// A pod as its shim sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PodState {
    /// `None` for a spare.
    pub pod_id: Option<String>,
    /// [`crate::PROTOCOL`] of the shim.
    pub protocol: u32,
    /// Every container that was created and not deleted.
    pub containers: Vec<ContainerState>,
    /// Why no container can be run in it any more; `None` as long as one can.
    #[serde(default)]
    pub broken: Option<String>,
}

/// A container as its shim sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerState {
    /// Container id.
    pub id: String,
    /// Host pid of the first process.
    pub pid: i32,
    /// Start time of that process.
    pub start_time: u64,
    /// Nanoseconds since the epoch; 0 before start.
    pub started_at: i64,
    /// Set once it has ended.
    pub exit: Option<ExitRecord>,
}
