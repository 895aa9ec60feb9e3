//! A process that another runtime makes, and how it is found.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, listen, recvmsg, socket_with,
};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use skiff_shim_proto::message::Failure;

use super::bundle::Bundle;
use super::exec::Files;
use super::words;
use crate::container::Ended;
use crate::failure;
use crate::peers::Asker;

/// A process of a container, from the command that makes it on.
#[derive(Debug)]
pub(crate) struct Outsider {
    /// 0 as long as nobody has told it.
    pid: i32,
    pidfd: Option<OwnedFd>,
    /// The command that is at work on it, by its pid: a child of ours that is not reaped.
    pub(super) tool: Option<i32>,
    /// It is to be ended as soon as it is known; who waits for that, if anybody does.
    pub(super) doomed: Option<Vec<Asker>>,
    /// Where the runtime tells its pid.
    pid_file: PathBuf,
    /// Where the runtime sends its terminal.
    console: Option<Console>,
    /// What the runtime was given, for the first process of a container.
    pub(super) bundle: Option<Bundle>,
    /// The same for an exec, until the process is known.
    pub(super) files: Option<Files>,
}

impl Outsider {
    /// One that `tool` is about to make.
    pub(super) fn new(tool: i32, pid_file: PathBuf, console: Option<Console>) -> Self {
        Self {
            pid: 0,
            pidfd: None,
            tool: Some(tool),
            doomed: None,
            pid_file,
            console,
            bundle: None,
            files: None,
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.as_ref()
    }

    /// Whether a command is at work on it.
    pub(crate) fn is_busy(&self) -> bool {
        self.tool.is_some()
    }

    /// Ends it as soon as it is known, and tells whoever asked. Gives whether it is not known yet.
    pub(crate) fn doom(&mut self, asker: Option<Asker>) -> bool {
        let unknown = self.pid == 0;
        if unknown {
            self.doomed.get_or_insert_default().extend(asker);
        }
        unknown
    }

    /// Removes what the runtime was given.
    pub(crate) fn drop_bundle(&mut self) {
        self.bundle = None;
    }

    /// Makes an end to the command that is at work on it.
    pub(crate) fn kill_tool(&self) {
        if let Some(pid) = self.tool.and_then(Pid::from_raw) {
            // Not reaped yet, so that the pid is still its own.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// The command has made it: finds out which process it is, which may be one that was reaped
    /// already. Gives how that one ended.
    pub(super) fn find(&mut self, orphans: &mut Orphans) -> Result<Option<Ended>, Failure> {
        let text = fs::read_to_string(&self.pid_file).map_err(|e| self.no_pid(&e))?;
        let pid = words::pid(&text).ok_or_else(|| self.no_pid(&"not a pid"))?;
        self.pid = pid.as_raw_nonzero().get();
        if let Some(pidfd) = child(pid) {
            self.pidfd = Some(pidfd);
            return Ok(None);
        }
        let ended = orphans.take(self.pid);
        let unknown = || failure::system(format!("find process {pid}"), &Errno::CHILD);
        ended.map(Some).ok_or_else(unknown)
    }

    /// The terminal of a process that was made with one.
    pub(super) fn take_terminal(&mut self) -> Result<Option<OwnedFd>, Failure> {
        self.console.take().map(Console::take).transpose()
    }

    fn no_pid(&self, why: &dyn std::fmt::Display) -> Failure {
        failure::system(format!("read the pid in {}", self.pid_file.display()), why)
    }
}

/// A child of ours that is not reaped; `None` when the pid is nobody's or somebody else's by now.
fn child(pid: Pid) -> Option<OwnedFd> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd.as_fd()), look).ok()?;
    Some(pidfd)
}

/// Most processes that are remembered.
const MOST_ORPHANS: usize = 256;

/// How processes ended that nobody knew, while a command was making one: a runtime may leave a
/// process to us long before it tells its pid.
#[derive(Debug, Default)]
pub(crate) struct Orphans(VecDeque<(i32, Ended)>);

impl Orphans {
    /// One was reaped.
    pub(super) fn add(&mut self, pid: i32, ended: Ended) {
        if self.0.len() == MOST_ORPHANS {
            self.0.pop_front();
        }
        self.0.push_back((pid, ended));
    }

    /// No command is making a process any more.
    pub(super) fn forget(&mut self) {
        self.0 = VecDeque::new();
    }

    /// How the latest process with this pid ended.
    fn take(&mut self, pid: i32) -> Option<Ended> {
        let at = self.0.iter().rposition(|(other, _)| *other == pid)?;
        self.0.remove(at).map(|(_, ended)| ended)
    }
}

/// A socket to which a runtime sends a terminal's master (runc, docs/terminals.md).
#[derive(Debug)]
pub(super) struct Console {
    socket: OwnedFd,
    path: PathBuf,
}

impl Console {
    /// Listens at `path`.
    pub(super) fn listen(path: PathBuf) -> Result<Self, Failure> {
        let doing = |e: Errno| failure::system(format!("listen at {}", path.display()), &e);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(doing)?;
        let address = SocketAddrUnix::new(&path).map_err(doing)?;
        bind(&socket, &address)
            .and_then(|()| listen(&socket, 1))
            .map_err(doing)?;
        Ok(Self { socket, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The terminal that has been sent. Never waits: whoever sends it has ended.
    fn take(self) -> Result<OwnedFd, Failure> {
        let failed = |e: Errno| {
            failure::system(
                format!("take the terminal from {}", self.path.display()),
                &e,
            )
        };
        let connection = accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
            .map_err(failed)?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 4096];
        let mut parts = [std::io::IoSliceMut::new(&mut name)];
        recvmsg(
            &connection,
            &mut parts,
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
        .map_err(failed)?;
        let received = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        received.ok_or_else(|| failed(Errno::NOMSG))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, connect, sendmsg};

    #[test]
    fn a_terminal_is_taken_from_one_who_has_hung_up() {
        let dir = tempfile::tempdir().unwrap();
        let console = Console::listen(dir.path().join("t")).unwrap();
        let path = console.path().to_owned();
        let client = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        connect(&client, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        let file = fs::File::open("/dev/null").unwrap();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        let name = [std::io::IoSlice::new(b"/dev/pts/0")];
        sendmsg(&client, &name, &mut ancillary, SendFlags::empty()).unwrap();
        drop(client);
        console.take().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_terminal_that_was_not_sent_is_an_error_and_no_wait() {
        let dir = tempfile::tempdir().unwrap();
        let console = Console::listen(dir.path().join("t")).unwrap();
        let failure = console.take().unwrap_err();
        assert!(
            failure.message.contains("take the terminal from"),
            "{failure}"
        );
    }

    const ENDED: Ended = Ended { code: 3, signal: 0 };

    #[test]
    fn a_process_that_was_reaped_is_known_by_the_pid_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let (mut outsider, mut orphans) =
            (Outsider::new(1, file.clone(), None), Orphans::default());
        // Larger than any pid, so that nobody has it.
        orphans.add(5_000_000, ENDED);
        assert!(outsider.find(&mut orphans).is_err());
        fs::write(&file, "5000000\n").unwrap();
        assert_eq!(outsider.find(&mut orphans).unwrap(), Some(ENDED));
        assert_eq!(outsider.pid(), 5_000_000);
        assert!(outsider.find(&mut orphans).is_err());
    }

    #[test]
    fn orphans_do_not_pile_up() {
        let mut orphans = Orphans::default();
        for pid in 1..1000 {
            orphans.add(pid, ENDED);
        }
        assert_eq!(orphans.0.len(), MOST_ORPHANS);
        assert_eq!(orphans.take(1), None);
        assert_eq!(orphans.take(999), Some(ENDED));
    }
}
