//! One message on a `SOCK_SEQPACKET` socket.
//!
//! A packet is one flag byte and the JSON of the message. When the JSON is longer than
//! [`INLINE`] bytes the packet is the flag byte alone and the JSON is the content of a memfd
//! that travels as the first file descriptor: the kernel limits a packet to the send buffer,
//! and a container's environment may be megabytes. Descriptors that belong to the message
//! follow in its order.

use std::borrow::Cow;
use std::io::{self, IoSlice, IoSliceMut, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest JSON that travels in the packet itself, in bytes.
pub const INLINE: usize = 64 * 1024;
/// Longest JSON at all, in bytes: what a kubelet can send us, and some room.
pub const MAX: u64 = 32 * 1024 * 1024;
/// Most descriptors in one packet, the memfd included.
pub const MAX_FDS: usize = 8;

const IN_PACKET: u8 = 0;
const IN_MEMFD: u8 = 1;

/// Why a frame could not be sent or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket or the memfd failed. `WouldBlock` is passed on as it is.
    #[error("shim socket: {0}")]
    Io(#[from] io::Error),
    /// The other side has closed.
    #[error("shim socket closed")]
    Closed,
    /// Not a message of this protocol.
    #[error("bad shim message: {0}")]
    Malformed(String),
}

impl FrameError {
    /// Nothing to read now, or no room to write now.
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Io(e) if e.kind() == io::ErrorKind::WouldBlock)
    }
}

impl From<rustix::io::Errno> for FrameError {
    fn from(e: rustix::io::Errno) -> Self {
        Self::Io(e.into())
    }
}

/// Sends one message with its descriptors. The packet goes whole or not at all.
pub fn send<M: Serialize>(
    socket: impl AsFd,
    message: &M,
    fds: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    let json = serde_json::to_vec(message).map_err(|e| FrameError::Malformed(e.to_string()))?;
    if json.len() <= INLINE {
        return send_packet(
            socket,
            &[IoSlice::new(&[IN_PACKET]), IoSlice::new(&json)],
            fds,
        );
    }
    let mut file = std::fs::File::from(memfd_create("skiff-message", MemfdFlags::CLOEXEC)?);
    file.write_all(&json)?;
    file.seek(SeekFrom::Start(0))?;
    let mut all = vec![file.as_fd()];
    all.extend_from_slice(fds);
    send_packet(socket, &[IoSlice::new(&[IN_MEMFD])], &all)
}

fn send_packet(
    socket: impl AsFd,
    parts: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    if fds.len() > MAX_FDS {
        return Err(FrameError::Malformed(format!(
            "{} descriptors in one message",
            fds.len()
        )));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// One packet as it came, for a receiver that wants to look at what it cannot parse.
#[derive(Debug)]
pub struct Packet<'a> {
    /// The JSON.
    pub json: Cow<'a, [u8]>,
    /// The message's own descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Descriptors are missing from the end: this process had no room for them.
    pub fds_lost: bool,
}

/// Receives one message with its descriptors, all close-on-exec. `buffer` is scratch space kept
/// by the caller; it grows to the size of one packet once.
pub fn recv<M: DeserializeOwned>(
    socket: impl AsFd,
    buffer: &mut Vec<u8>,
) -> Result<(M, Vec<OwnedFd>), FrameError> {
    let packet = recv_packet(socket, buffer)?;
    if packet.fds_lost {
        return Err(FrameError::Malformed("descriptors lost on the way".into()));
    }
    Ok((parse(&packet.json)?, packet.fds))
}

/// [`recv`] without the parsing.
pub fn recv_packet(socket: impl AsFd, buffer: &mut Vec<u8>) -> Result<Packet<'_>, FrameError> {
    buffer.resize(buffer.len().max(INLINE + 1), 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got.bytes == 0 {
        return Err(FrameError::Closed);
    }
    if got.flags.contains(ReturnFlags::TRUNC) {
        return Err(FrameError::Malformed("truncated packet".into()));
    }
    let json = match buffer[0] {
        IN_PACKET => Cow::Borrowed(&buffer[1..got.bytes]),
        IN_MEMFD if !fds.is_empty() => Cow::Owned(read_memfd(fds.remove(0))?),
        flag => return Err(FrameError::Malformed(format!("flag byte {flag}"))),
    };
    Ok(Packet {
        json,
        fds,
        fds_lost: got.flags.contains(ReturnFlags::CTRUNC),
    })
}

fn parse<M: DeserializeOwned>(json: &[u8]) -> Result<M, FrameError> {
    serde_json::from_slice(json).map_err(|e| FrameError::Malformed(e.to_string()))
}

fn read_memfd(fd: OwnedFd) -> Result<Vec<u8>, FrameError> {
    let mut json = Vec::new();
    let file = std::fs::File::from(fd);
    let mut limited = io::Read::take(&file, MAX + 1);
    io::Read::read_to_end(&mut limited, &mut json)?;
    if json.len() as u64 > MAX {
        return Err(FrameError::Malformed(format!("longer than {MAX} bytes")));
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Call, Request};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap()
    }

    #[test]
    fn message_and_descriptors_arrive() {
        let (a, b) = pair();
        let request = Request {
            seq: 7,
            call: Call::Start { id: "c".into() },
        };
        send(&a, &request, &[a.as_fd()]).unwrap();
        let (got, fds): (Request, _) = recv(&b, &mut Vec::new()).unwrap();
        assert_eq!(got.seq, 7);
        assert!(matches!(got.call, Call::Start { id } if id == "c"));
        assert_eq!(fds.len(), 1);
    }

    #[test]
    fn long_message_travels_in_a_memfd() {
        let (a, b) = pair();
        let id = "x".repeat(3 * INLINE);
        send(
            &a,
            &Request {
                seq: 1,
                call: Call::Start { id: id.clone() },
            },
            &[],
        )
        .unwrap();
        let (got, fds): (Request, _) = recv(&b, &mut Vec::new()).unwrap();
        assert!(matches!(got.call, Call::Start { id: i } if i == id));
        assert!(fds.is_empty());
    }

    #[test]
    fn closed_and_garbage_are_errors() {
        let (a, b) = pair();
        rustix::net::send(&a, b"\x07{}", SendFlags::empty()).unwrap();
        let got = recv::<Request>(&b, &mut Vec::new());
        assert!(matches!(got, Err(FrameError::Malformed(_))), "{got:?}");
        drop(a);
        assert!(matches!(
            recv::<Request>(&b, &mut Vec::new()),
            Err(FrameError::Closed)
        ));
    }
}
