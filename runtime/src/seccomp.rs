//! The seccomp filter of a container.
//!
//! It comes compiled; this library does not read profiles. It is put on as late as the kernel
//! allows, since everything we do afterwards, a profile has to allow as well:
//!
//! ```text
//!  with no_new_privs:     ... setgroups setresgid setresuid capset prctl │filter│ execve
//!  without:  ... setgroups setresgid │filter│ setresuid capset prctl [fchdir]     execve
//! ```
//!
//! Without no_new_privs putting it on takes CAP_SYS_ADMIN, which becoming the user gives up. A
//! command that cannot be executed is reported with `write`. With a listener the process also
//! writes the number of its descriptor to the parent and reads that it was taken (the parent
//! copies it with pidfd_getfd and sends it to the agent); the reading of profiles refuses those
//! that put `read` or `write` in the agent's hands.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde_json::json;

use crate::child::Status;
use crate::error::Doing;
use crate::oci_spec::runtime::{ContainerState, SECCOMP_FD_NAME};
use crate::report::{MAX_TEXT, Report, Word};
use crate::{Error, sys};

/// Most instructions that the kernel takes, `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// Bytes of one instruction.
const INSTRUCTION: usize = size_of::<libc::sock_filter>();

/// Version of the runtime-spec whose container process state an agent gets.
const VERSION: &str = "1.2.0";

/// What is put on a container's processes.
#[derive(Clone)]
pub struct Filter {
    program: Vec<libc::sock_filter>,
    flags: u32,
    listener: Option<Listener>,
}

/// Where the descriptor of a filter that notifies goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The agent's listening unix stream socket.
    pub agent: PathBuf,
    /// Handed to the agent as it is.
    pub metadata: String,
    /// Id of the container.
    pub container: String,
    /// Directory of its configuration; empty when it has none.
    pub bundle: PathBuf,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            program,
            flags,
            listener,
        } = self;
        write!(
            f,
            "Filter({} instructions, {flags:#x}, {listener:?})",
            program.len()
        )
    }
}

impl Filter {
    /// A program of `struct sock_filter`s, the flags for seccomp(2) without
    /// `SECCOMP_FILTER_FLAG_NEW_LISTENER`, and who is to be asked.
    pub fn new(program: &[u8], flags: u32, listener: Option<Listener>) -> Result<Self, Error> {
        let (instructions, rest) = program.as_chunks::<INSTRUCTION>();
        if !rest.is_empty() || instructions.is_empty() || instructions.len() > MAX_INSTRUCTIONS {
            let problem = format!("{} bytes are no program", program.len());
            return Err(Error::invalid("linux.seccomp", problem));
        }
        if listener
            .as_ref()
            .is_some_and(|listener| listener.to_bytes(0).len() > MAX_TEXT)
        {
            return Err(Error::invalid("linux.seccomp.listenerMetadata", "too long"));
        }
        let decode = |[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; INSTRUCTION]| libc::sock_filter {
            code: u16::from_ne_bytes([*c0, *c1]),
            jt: *jt,
            jf: *jf,
            k: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
        };
        Ok(Self {
            program: instructions.iter().map(decode).collect(),
            flags,
            listener,
        })
    }

    /// Whether a process that puts it on hands over a listener.
    pub(crate) fn has_listener(&self) -> bool {
        self.listener.is_some()
    }

    /// Puts the filter on this process, and waits until its listener is in the agent's hands.
    pub(crate) fn put_on(&self, status: &Status) -> Result<(), Error> {
        let fd = sys::seccomp::set_filter(&self.program, self.flags, self.listener.is_some())
            .doing(|| format!("put on {self:?}"))?;
        if let (Some(listener), Some(fd)) = (&self.listener, fd) {
            status.say(&Report::Listener(listener.to_bytes(fd.as_raw_fd())));
            if !status.hear(Word::ListenerTaken) {
                sys::process::exit(1);
            }
            // The agent has a copy; a filter need not let us close ours.
            sys::fd::leave_to_exec(fd);
        }
        Ok(())
    }
}

impl Listener {
    fn to_bytes(&self, fd: RawFd) -> Vec<u8> {
        let Self {
            agent,
            metadata,
            container,
            bundle,
        } = self;
        json!([fd, agent, metadata, container, bundle])
            .to_string()
            .into_bytes()
    }
}

/// A listener's descriptor in a child, as the child has announced it.
pub(crate) struct Offer {
    fd: RawFd,
    listener: Listener,
}

impl Offer {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let parsed: (RawFd, PathBuf, String, String, PathBuf) = serde_json::from_slice(bytes)
            .map_err(|e| Error::invalid("seccomp listener", e.to_string()))?;
        let (fd, agent, metadata, container, bundle) = parsed;
        Ok(Self {
            fd,
            listener: Listener {
                agent,
                metadata,
                container,
                bundle,
            },
        })
    }

    /// Takes the descriptor out of the child and gives it to the agent, as runtime-spec
    /// "The Container Process State" says. An agent that is not there, or does not read, is an
    /// error at once: the caller has a pod to watch over.
    pub(crate) fn hand_over(
        self,
        pid: i32,
        pidfd: BorrowedFd<'_>,
        state: ContainerState,
    ) -> Result<(), Error> {
        let Self { fd, listener } = self;
        let fd = pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty())
            .doing(|| format!("take the seccomp listener of process {pid}"))?;
        let state = json!({
            "ociVersion": VERSION,
            "fds": [SECCOMP_FD_NAME],
            "pid": pid,
            "metadata": listener.metadata,
            "state": {
                "ociVersion": VERSION,
                "id": listener.container,
                "status": state,
                "pid": pid,
                "bundle": listener.bundle,
            },
        });
        send(&listener.agent, state.to_string().as_bytes(), &fd).doing(|| {
            format!(
                "send the seccomp listener to the agent at {}",
                listener.agent.display()
            )
        })
    }
}

fn send(agent: &Path, message: &[u8], fd: &OwnedFd) -> rustix::io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(agent)?)?;
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = sendmsg(
        &socket,
        &[IoSlice::new(message)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    if sent == message.len() {
        Ok(())
    } else {
        Err(rustix::io::Errno::AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_whole_instructions() {
        let allow = [6, 0, 0, 0, 0, 0, 0xff, 0x7f];
        let filter = Filter::new(&allow, 0, None).unwrap();
        assert_eq!(filter.program.len(), 1);
        assert_eq!(filter.program[0].k, 0x7fff_0000);
        for wrong in [
            vec![],
            vec![6; 7],
            vec![6; (MAX_INSTRUCTIONS + 1) * INSTRUCTION],
        ] {
            assert!(Filter::new(&wrong, 0, None).is_err(), "{}", wrong.len());
        }
    }

    #[test]
    fn an_offer_is_what_was_announced() {
        let listener = Listener {
            agent: "/run/agent".into(),
            metadata: "a \"b\"".into(),
            container: "c".into(),
            bundle: PathBuf::new(),
        };
        let offer = Offer::parse(&listener.to_bytes(17)).unwrap();
        assert_eq!((offer.fd, offer.listener), (17, listener));
        assert!(Offer::parse(b"[1]").is_err());
    }

    #[test]
    fn the_agent_gets_the_state_with_the_descriptor() {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        let socket = std::os::unix::net::UnixListener::bind(&agent).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        send(&agent, b"state", &null.into()).unwrap();
        let (peer, _) = socket.accept().unwrap();
        let mut data = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [std::io::IoSliceMut::new(&mut data)];
        let got = recvmsg(&peer, &mut slices, &mut control, RecvFlags::empty()).unwrap();
        let rights = control
            .drain()
            .any(|m| matches!(m, RecvAncillaryMessage::ScmRights(_)));
        assert!(rights);
        assert_eq!(&data[..got.bytes], b"state");
        assert!(
            send(
                &dir.path().join("nobody"),
                b"",
                &std::fs::File::open("/dev/null").unwrap().into()
            )
            .is_err()
        );
    }
}
