//! The command line.

use std::path::PathBuf;

use clap::{Args as Arguments, Parser, Subcommand, ValueEnum};

/// An OCI runtime.
#[derive(Debug, Parser)]
#[command(name = "skiff-oci", version = concat!(env!("CARGO_PKG_VERSION"), "\nspec: 1.2.1"))]
pub(crate) struct Args {
    /// Directory in which containers' states are kept.
    #[arg(long, default_value = "/run/skiff-oci", global = true)]
    pub(crate) root: PathBuf,
    /// File to which errors are appended.
    #[arg(long, global = true)]
    pub(crate) log: Option<PathBuf>,
    /// Form of the errors in that file.
    #[arg(long, value_enum, default_value = "text", global = true)]
    pub(crate) log_format: LogFormat,
    /// Refused: cgroups are managed as files.
    #[arg(long, global = true)]
    pub(crate) systemd_cgroup: bool,
    /// Accepted for compatibility; everything there is to say is said.
    #[arg(long, global = true, hide = true)]
    pub(crate) debug: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Form of errors in the log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Commands of runc.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a container up to the point before its command runs.
    Create(Create),
    /// Run the command of a created container.
    Start(One),
    /// Create and start a container and, without --detach, wait for it and delete it.
    Run(Run),
    /// Run a further process in a container.
    Exec(Exec),
    /// Send a signal to a container.
    Kill(Kill),
    /// Delete what is left of a container.
    Delete(Delete),
    /// Print the state of a container.
    State(One),
    /// List containers.
    List(List),
    /// List the processes of a container.
    Ps(Ps),
    /// Stop all processes of a container where they are.
    Pause(One),
    /// Let the processes of a paused container go on.
    Resume(One),
    /// Change the limits of a container.
    Update(Update),
    /// Print what this runtime can do.
    Features,
    /// Write a configuration to start from.
    Spec(Spec),
    /// Not supported yet.
    #[command(hide = true)]
    Checkpoint(Anything),
    /// Not supported yet.
    #[command(hide = true)]
    Restore(Anything),
}

/// A container.
#[derive(Debug, Arguments)]
pub(crate) struct One {
    /// Container id.
    pub(crate) id: String,
}

/// Arguments of a command that is refused.
#[derive(Debug, Arguments)]
pub(crate) struct Anything {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub(crate) rest: Vec<String>,
}

/// `create`.
#[derive(Debug, Arguments)]
pub(crate) struct Create {
    /// Container id.
    pub(crate) id: String,
    /// Directory with config.json.
    #[arg(long, short, default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Unix socket to which the terminal is sent.
    #[arg(long)]
    pub(crate) console_socket: Option<PathBuf>,
    /// File to which the pid is written.
    #[arg(long)]
    pub(crate) pid_file: Option<PathBuf>,
    /// Descriptors after the first three that the container gets, too.
    #[arg(long, default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Refused: the root is always pivoted to.
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Refused: every container has its own session keyring.
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
}

/// `run`.
#[derive(Debug, Arguments)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,
    /// Do not wait.
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Do not delete the container when it has ended.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Accepted for compatibility: this runtime is no reaper of others' children.
    #[arg(long, hide = true)]
    pub(crate) no_subreaper: bool,
}

/// `exec`.
#[derive(Debug, Arguments)]
pub(crate) struct Exec {
    /// Container id.
    pub(crate) id: String,
    /// Command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
    /// File with the process, in the form of the configuration's `process`.
    #[arg(long, short, conflicts_with_all = ["command", "cwd", "env", "user", "cap"])]
    pub(crate) process: Option<PathBuf>,
    /// Working directory.
    #[arg(long)]
    pub(crate) cwd: Option<PathBuf>,
    /// NAME=value, added to the environment.
    #[arg(long, short)]
    pub(crate) env: Vec<String>,
    /// uid or uid:gid.
    #[arg(long, short)]
    pub(crate) user: Option<String>,
    /// Additional group.
    #[arg(long, short = 'g')]
    pub(crate) additional_gids: Vec<u32>,
    /// Capability to add.
    #[arg(long, short)]
    pub(crate) cap: Vec<String>,
    /// Forbid the process to gain privileges.
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Give the process a terminal.
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Unix socket to which the terminal is sent.
    #[arg(long)]
    pub(crate) console_socket: Option<PathBuf>,
    /// Do not wait.
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// File to which the pid is written.
    #[arg(long)]
    pub(crate) pid_file: Option<PathBuf>,
    /// Descriptors after the first three that the process gets, too.
    #[arg(long, default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Exec in a paused container, where the process waits for the resume.
    #[arg(long)]
    pub(crate) ignore_paused: bool,
}

/// `kill`.
#[derive(Debug, Arguments)]
pub(crate) struct Kill {
    /// Container id.
    pub(crate) id: String,
    /// Signal, by name or number.
    #[arg(default_value = "TERM")]
    pub(crate) signal: String,
    /// Send it to all processes of the container.
    #[arg(long, short)]
    pub(crate) all: bool,
}

/// `delete`.
#[derive(Debug, Arguments)]
pub(crate) struct Delete {
    /// Container id.
    pub(crate) id: String,
    /// Kill it first if it runs; succeed if there is none.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// `list`.
#[derive(Debug, Arguments)]
pub(crate) struct List {
    /// Form of the list.
    #[arg(long, short, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// Ids only.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// `ps`.
#[derive(Debug, Arguments)]
pub(crate) struct Ps {
    /// Container id.
    pub(crate) id: String,
    /// Form of the list.
    #[arg(long, short, value_enum, default_value = "table")]
    pub(crate) format: Format,
}

/// Form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns with a heading.
    Table,
    /// JSON.
    Json,
}

/// `update`.
#[derive(Debug, Arguments)]
pub(crate) struct Update {
    /// Container id.
    pub(crate) id: String,
    /// File with limits in the form of the configuration's `linux.resources`; - for standard
    /// input.
    #[arg(long, short)]
    pub(crate) resources: Option<PathBuf>,
    /// Memory, in bytes; -1 for unlimited.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) memory: Option<i64>,
    /// Memory that is reclaimed last, in bytes.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) memory_reservation: Option<i64>,
    /// Memory and swap together, in bytes; -1 for unlimited.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<i64>,
    /// Time on processors per period, in microseconds; -1 for unlimited.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Period, in microseconds.
    #[arg(long)]
    pub(crate) cpu_period: Option<u64>,
    /// Share of the processors, relative to others.
    #[arg(long)]
    pub(crate) cpu_share: Option<u64>,
    /// Time beyond the quota that may be saved up, in microseconds.
    #[arg(long)]
    pub(crate) cpu_burst: Option<u64>,
    /// 1: run only when nothing else wants to.
    #[arg(long)]
    pub(crate) cpu_idle: Option<i64>,
    /// Processors to run on, as 0-2,7.
    #[arg(long)]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to use.
    #[arg(long)]
    pub(crate) cpuset_mems: Option<String>,
    /// Share of block I/O, 10 to 1000.
    #[arg(long)]
    pub(crate) blkio_weight: Option<u16>,
    /// Most processes; -1 for unlimited.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
}

/// `spec`.
#[derive(Debug, Arguments)]
pub(crate) struct Spec {
    /// Directory in which config.json is written.
    #[arg(long, short, default_value = ".")]
    pub(crate) bundle: PathBuf,
}
