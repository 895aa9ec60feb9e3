//! `create` and `run`.

use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, bind, connect, listen, sendmsg, socket_with,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use skiff_runtime::oci_spec::runtime::Spec;
use skiff_runtime::{Init, Progress, Rootfs, Stdio, bundle, cgroup};

use crate::args;
use crate::record::{Record, Root, short};
use crate::{delete, foreground, protect, seccomp, start};

/// Where cgroup v2 is mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Builds a container, which waits at its gate when this program has ended.
pub(crate) fn run(root: &Root, args: &args::Create) -> Result<()> {
    create(root, args).map(drop)
}

/// Creates and starts; waits and deletes unless told otherwise.
pub(crate) fn run_and_wait(root: &Root, args: &args::Run) -> Result<ExitCode> {
    let signals = if args.detach {
        None
    } else {
        Some(foreground::Signals::new()?)
    };
    let record = create(root, &args.create)?;
    let id = record.id.clone();
    let pidfd = record.pidfd()?;
    let started = start::run(root, &id);
    let code = match (&started, pidfd, signals) {
        (Ok(()), Some(pidfd), Some(signals)) => signals.wait_for(pidfd.as_fd())?,
        (Ok(()), ..) => return Ok(ExitCode::SUCCESS),
        (Err(_), ..) => ExitCode::FAILURE,
    };
    if !args.keep || started.is_err() {
        delete::delete(root.load(&id)?)?;
    }
    started.map(|()| code)
}

fn create(root: &Root, args: &args::Create) -> Result<Record> {
    protect::reexec()?;
    if args.no_pivot {
        bail!("--no-pivot is not supported: the root is always pivoted to");
    }
    if args.no_new_keyring {
        bail!("--no-new-keyring is not supported: every container has its own session keyring");
    }
    let bundle = fs::canonicalize(&args.bundle)
        .with_context(|| format!("bundle {}", args.bundle.display()))?;
    let spec = load(&bundle)?;
    let terminal = spec
        .process()
        .as_ref()
        .and_then(|process| process.terminal())
        == Some(true);
    if terminal != args.console_socket.is_some() {
        bail!("process.terminal and --console-socket go together");
    }
    let rootfs = spec.root().as_ref().context("root: missing")?;
    let rootfs = Rootfs::Directory(bundle.join(rootfs.path()));
    let cgroup = bundle::cgroup(&spec, &args.id, Path::new(CGROUPS))?;
    let filter = seccomp::filter(&spec, &args.id, &bundle)?;
    let mut claim = root.claim(&args.id, &cgroup)?;
    if !cgroup::processes(&cgroup)?.is_empty() {
        let path = cgroup.display();
        bail!(
            "linux.cgroupsPath: {path} has processes, which would be killed with the container's"
        );
    }
    let gate = listen_at(&claim.gate())?;
    let extra = inherited(args.preserve_fds)?;
    let extra: Vec<BorrowedFd<'_>> = extra.iter().map(AsFd::as_fd).collect();
    let mut create = skiff_runtime::Create::new(&args.id, &spec, &rootfs, &cgroup, stdio(terminal));
    create.bundle = Some(&bundle);
    create.gate = Some(gate.as_fd());
    create.extra_fds = &extra;
    create.seccomp = filter.as_ref();
    let mut init = skiff_runtime::create(create)?;
    let built = finish(&mut init, args).and_then(|()| {
        let start_time = init.start_time()?;
        let record = Record::new(
            &args.id,
            init.pid(),
            start_time,
            bundle,
            cgroup.clone(),
            spec.clone(),
        );
        claim.keep(record)
    });
    if built.is_err() {
        // The cgroup is still claimed: nobody else's container is in it.
        let _ = cgroup::kill_all(&cgroup);
        let _ = delete::remove_cgroup(&cgroup);
    }
    built
}

/// Waits until the container is built, and tells who wants to know.
fn finish(init: &mut Init, args: &args::Create) -> Result<()> {
    match init.wait()? {
        Progress::Ready { console } => {
            if let (Some(console), Some(socket)) = (console, &args.console_socket) {
                send_console(socket, console.as_fd())?;
            }
        }
        Progress::Failed(failure) => bail!(failure),
        other => bail!("unexpected {other:?} of a container being built"),
    }
    match &args.pid_file {
        Some(path) => write_pid(path, init.pid()),
        None => Ok(()),
    }
}

/// Reads the configuration.
pub(crate) fn load(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    let json = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    bundle::configuration(&json).with_context(|| format!("configuration {}", path.display()))
}

/// Our own descriptors 0, 1 and 2, or a terminal.
pub(crate) fn stdio(terminal: bool) -> Stdio<'static> {
    if terminal {
        return Stdio::Terminal;
    }
    Stdio::Fds([
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ])
}

/// Copies of our descriptors from 3 on.
pub(crate) fn inherited(count: u32) -> Result<Vec<OwnedFd>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let own: Pid = rustix::process::getpid();
    let own = pidfd_open(own, PidfdFlags::empty())?;
    let copy = |number: i32| {
        pidfd_getfd(&own, number, PidfdGetfdFlags::empty())
            .with_context(|| format!("--preserve-fds: descriptor {number}"))
    };
    (3..).take(count as usize).map(copy).collect()
}

fn listen_at(path: &Path) -> Result<OwnedFd> {
    let (_dir, name) = short(path)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(&name)?)
        .and_then(|()| listen(&socket, 1))
        .with_context(|| format!("listen at {}", path.display()))?;
    Ok(socket)
}

/// Sends the terminal's master side to whoever listens at the socket, as runc does.
pub(crate) fn send_console(path: &Path, console: BorrowedFd<'_>) -> Result<()> {
    let doing = || format!("send the terminal to {}", path.display());
    let (_dir, name) = short(path)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(&name)?).with_context(doing)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [console];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        &socket,
        &[IoSlice::new(b"/dev/ptmx")],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .with_context(doing)?;
    Ok(())
}

/// Writes a pid file under another name first: who watches for it finds it complete.
pub(crate) fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().context("--pid-file names no file")?;
    let temporary = path.with_file_name(format!(".{}", name.to_string_lossy()));
    fs::write(&temporary, pid.to_string())
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("write {}", path.display()))
}
