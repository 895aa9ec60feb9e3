//! What a child and its parent say to each other on their `SOCK_SEQPACKET` pair.
//!
//! Child to parent, one packet each, the first byte being the kind:
//!
//! | packet | meaning |
//! |---|---|
//! | `r`, perhaps with a descriptor | built, waiting for the word to start; the descriptor is the terminal |
//! | `c` with a descriptor | the terminal of a process that does not wait |
//! | `h` | namespaces are made: run the hooks that belong outside, then answer |
//! | `l`, JSON | a seccomp listener is to be handed over, see `seccomp`; then answer |
//! | `f`, errno, exit code, text | gave up |
//! | end of file | executed the command: the socket is close-on-exec |
//!
//! Parent to child: `s` start, `h` hooks are done, `l` the listener has been taken. The end of file tells the child that nobody
//! is left who wants it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::Failure;

/// Longest text of a packet, in bytes; of a failure the rest is cut off.
pub(crate) const MAX_TEXT: usize = 8192;

/// A packet from the child.
#[derive(Debug)]
pub(crate) enum Report {
    /// Built and waiting.
    Ready(Option<OwnedFd>),
    /// Its terminal.
    Console(OwnedFd),
    /// Wants the hooks run.
    Hooks,
    /// Wants its seccomp listener handed over.
    Listener(Vec<u8>),
    /// Gave up.
    Failed(Failure),
    /// Closed its end.
    Closed,
}

/// A packet from the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Execute the command.
    Start = b's' as isize,
    /// The hooks have run.
    HooksDone = b'h' as isize,
    /// The seccomp listener is with the agent.
    ListenerTaken = b'l' as isize,
}

/// The two ends: parent's and child's.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends a packet of the child. Nothing can be done about a failure: the parent learns the
/// rest from the end of file. Without a descriptor `write` is used, since a child that has put on
/// a seccomp filter may have little else left.
pub(crate) fn send(socket: BorrowedFd<'_>, report: &Report) -> io::Result<()> {
    let (data, fd) = match report {
        Report::Ready(console) => (vec![b'r'], console.as_ref()),
        Report::Console(console) => (vec![b'c'], Some(console)),
        Report::Hooks => (vec![b'h'], None),
        Report::Listener(text) => ([b"l", text.as_slice()].concat(), None),
        Report::Failed(failure) => (encode(failure), None),
        Report::Closed => return Ok(()),
    };
    let Some(fd) = fd else {
        rustix::io::write(socket, &data)?;
        return Ok(());
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        socket,
        &[IoSlice::new(&data)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Reads a packet of the child without waiting; `None` when there is none yet.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Report>> {
    let mut data = [0; MAX_TEXT + 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = match recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut data)],
        &mut control,
        flags,
    ) {
        Ok(got) => got.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        // A child that was killed with our word unread resets the connection.
        Err(Errno::CONNRESET) => 0,
        Err(e) => return Err(e.into()),
    };
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut rights) = message {
            fd = rights.next();
        }
    }
    decode(&data[..got], fd).map(Some).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "unknown packet from a container process",
        )
    })
}

/// Tells the child something.
pub(crate) fn tell(socket: BorrowedFd<'_>, word: Word) -> io::Result<()> {
    rustix::net::send(socket, &[word as u8], SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for the parent's word; `false` when the parent is gone or says something else.
pub(crate) fn hear(socket: BorrowedFd<'_>, word: Word) -> bool {
    let mut data = [0u8; 1];
    loop {
        match rustix::io::read(socket, &mut data) {
            Err(Errno::INTR) => {}
            Ok(1) => return data[0] == word as u8,
            _ => return false,
        }
    }
}

fn encode(failure: &Failure) -> Vec<u8> {
    let text = failure.message.as_bytes();
    let mut data = vec![b'f'];
    data.extend_from_slice(&failure.errno.to_le_bytes());
    data.extend_from_slice(&failure.exit_code.unwrap_or(0).to_le_bytes());
    data.extend_from_slice(&text[..text.len().min(MAX_TEXT)]);
    data
}

fn decode(data: &[u8], fd: Option<OwnedFd>) -> Option<Report> {
    let Some((kind, rest)) = data.split_first() else {
        return Some(Report::Closed);
    };
    match kind {
        b'r' => Some(Report::Ready(fd)),
        b'c' => fd.map(Report::Console),
        b'h' => Some(Report::Hooks),
        b'l' => Some(Report::Listener(rest.to_vec())),
        b'f' => {
            let (errno, rest) = rest.split_first_chunk()?;
            let (exit_code, text) = rest.split_first_chunk()?;
            let exit_code = i32::from_le_bytes(*exit_code);
            Some(Report::Failed(Failure {
                message: String::from_utf8_lossy(text).into_owned(),
                errno: i32::from_le_bytes(*errno),
                exit_code: (exit_code != 0).then_some(exit_code),
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn failure_arrives_whole_and_then_the_end() {
        let (parent, child) = pair().unwrap();
        let failure = Failure {
            message: "execute /x: no".into(),
            errno: 13,
            exit_code: Some(126),
        };
        send(child.as_fd(), &Report::Failed(failure.clone())).unwrap();
        let got = receive(parent.as_fd()).unwrap();
        assert!(matches!(got, Some(Report::Failed(f)) if f == failure));
        assert!(receive(parent.as_fd()).unwrap().is_none());
        drop(child);
        assert!(matches!(
            receive(parent.as_fd()).unwrap(),
            Some(Report::Closed)
        ));
    }

    #[test]
    fn overlong_text_is_cut_not_lost() {
        let (parent, child) = pair().unwrap();
        let failure = Failure {
            message: "x".repeat(100_000),
            errno: 1,
            exit_code: None,
        };
        send(child.as_fd(), &Report::Failed(failure)).unwrap();
        let got = receive(parent.as_fd()).unwrap();
        assert!(matches!(got, Some(Report::Failed(f)) if f.message.len() == MAX_TEXT));
    }

    #[test]
    fn console_travels_with_ready() {
        let (parent, child) = pair().unwrap();
        let (console, _other) = pair().unwrap();
        send(child.as_fd(), &Report::Ready(Some(console))).unwrap();
        assert!(matches!(
            receive(parent.as_fd()).unwrap(),
            Some(Report::Ready(Some(_)))
        ));
    }

    #[test]
    fn word_is_heard_and_a_gone_parent_is_noticed() {
        let (parent, child) = pair().unwrap();
        tell(parent.as_fd(), Word::Start).unwrap();
        assert!(hear(child.as_fd(), Word::Start));
        tell(parent.as_fd(), Word::HooksDone).unwrap();
        assert!(!hear(child.as_fd(), Word::Start));
        drop(parent);
        assert!(!hear(child.as_fd(), Word::Start));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(data: Vec<u8>) {
            let _ = decode(&data, None);
        }
    }
}
