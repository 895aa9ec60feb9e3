//! Connections to daemons: any number may be open, and none can hold the pod up.
//!
//! Invariants: a reply goes to the connection its request came from, in the order of sending; an
//! event goes to all; what a daemon does not read is queued up to a limit and then its connection
//! is closed, since everything it misses can be asked for again or read from exit records.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use skiff_shim_proto::frame::{self, FrameError};
use skiff_shim_proto::message::{Event, Failure, FailureKind, Message, Reply, Request};

use crate::failure;
use crate::poll::{Key, Poll, Ready, Source, Watched};
use crate::request::{self, Incoming};

/// Most messages queued for one connection, beyond what its socket takes.
const QUEUE: usize = 256;
/// Most connections at a time. A node has one daemon, and during an upgrade two.
const MOST: usize = 16;

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The connection.
    pub(crate) connection: Key,
    /// The request's number.
    pub(crate) seq: u64,
}

/// The answer to a request.
pub(crate) type Answer = Result<Reply, Failure>;

#[derive(Debug)]
struct Connection {
    socket: Watched,
    /// Messages, some with a descriptor.
    queue: VecDeque<(Message, Option<OwnedFd>)>,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    connections: BTreeMap<Key, Connection>,
    /// Closed by us and not yet reported by [`Peers::take_closed`].
    closed: Vec<Key>,
}

impl Peers {
    /// Takes a connected socket, which is made non-blocking.
    pub(crate) fn add(&mut self, poll: &Poll, key: Key, socket: OwnedFd) -> io::Result<()> {
        if self.connections.len() >= MOST {
            return Err(io::Error::other(format!(
                "{MOST} connections are open already"
            )));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        let mut socket = Watched::new(socket, Source::Connection(key));
        socket.want(poll, Ready::IN)?;
        self.connections.insert(
            key,
            Connection {
                socket,
                queue: VecDeque::new(),
            },
        );
        Ok(())
    }

    /// Receives a message with its descriptors; `None` when there is none now, or when the
    /// connection has ended or had to be closed.
    pub(crate) fn receive(
        &mut self,
        poll: &Poll,
        key: Key,
        buffer: &mut Vec<u8>,
    ) -> Option<(Incoming, Vec<OwnedFd>)> {
        let connection = self.connections.get(&key)?;
        match receive(&connection.socket, buffer) {
            Ok(received) => Some(received),
            Err(e) if e.would_block() => None,
            Err(e) => {
                if !is_end(&e) {
                    crate::complain(&format!("a connection is closed: {e}"));
                }
                self.close(poll, key);
                None
            }
        }
    }

    /// Answers a request, if whoever asked is still there; whether that is so.
    pub(crate) fn answer(&mut self, poll: &Poll, asker: Asker, result: Answer) -> bool {
        self.send(
            poll,
            asker.connection,
            Message::Reply {
                seq: asker.seq,
                result,
            },
            None,
        );
        self.connections.contains_key(&asker.connection)
    }

    /// Answers a request with a descriptor.
    pub(crate) fn hand_over(&mut self, poll: &Poll, asker: Asker, reply: Reply, fd: OwnedFd) {
        let Asker { connection, seq } = asker;
        let result = Ok(reply);
        self.send(poll, connection, Message::Reply { seq, result }, Some(fd));
    }

    /// Tells an event to every connection.
    pub(crate) fn tell(&mut self, poll: &Poll, event: &Event) {
        let keys: Vec<Key> = self.connections.keys().copied().collect();
        for key in keys {
            self.send(poll, key, Message::Event(event.clone()), None);
        }
    }

    fn send(&mut self, poll: &Poll, key: Key, message: Message, fd: Option<OwnedFd>) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        connection.queue.push_back((message, fd));
        self.flush(poll, key);
    }

    /// Sends what is queued and the socket takes.
    pub(crate) fn flush(&mut self, poll: &Poll, key: Key) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        let flushed = connection.flush(poll);
        if flushed.is_err() || connection.queue.len() > QUEUE {
            self.close(poll, key);
        }
    }

    /// Closes a connection.
    pub(crate) fn close(&mut self, poll: &Poll, key: Key) {
        if let Some(mut connection) = self.connections.remove(&key) {
            // Removed first: a child just cloned may hold a copy that keeps it in the epoll set.
            let _ = connection.socket.want(poll, Ready::empty());
            self.closed.push(key);
        }
    }

    /// Connections that were closed since the last call.
    pub(crate) fn take_closed(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.closed)
    }
}

impl Connection {
    fn flush(&mut self, poll: &Poll) -> Result<(), FrameError> {
        while let Some((message, fd)) = self.queue.front() {
            let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
            match frame::send(&self.socket, message, &fds) {
                Ok(()) => {
                    self.queue.pop_front();
                }
                Err(e) if e.would_block() => break,
                Err(e) => return Err(e),
            }
        }
        let wanted = if self.queue.is_empty() {
            Ready::IN
        } else {
            Ready::IN | Ready::OUT
        };
        Ok(self.socket.want(poll, wanted)?)
    }
}

fn receive(socket: &Watched, buffer: &mut Vec<u8>) -> Result<(Incoming, Vec<OwnedFd>), FrameError> {
    let packet = frame::recv_packet(socket, buffer)?;
    let incoming =
        request::parse(&packet.json).map_err(|e| FrameError::Malformed(e.to_string()))?;
    let incoming = match incoming {
        Incoming::Request(Request { seq, .. }) if packet.fds_lost => {
            let why = "this shim has no room for the request's descriptors (RLIMIT_NOFILE)";
            Incoming::Refused {
                seq,
                failure: failure::new(FailureKind::System, why),
            }
        }
        incoming => incoming,
    };
    Ok((incoming, packet.fds))
}

/// The other side has closed, perhaps without reading everything.
fn is_end(error: &FrameError) -> bool {
    match error {
        FrameError::Closed => true,
        FrameError::Io(e) => e.kind() == io::ErrorKind::ConnectionReset,
        FrameError::Malformed(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn warning(number: usize) -> Event {
        Event::Warning {
            id: None,
            message: format!("{number:04} {}", "x".repeat(1000)),
        }
    }

    fn received(socket: &OwnedFd) -> String {
        match frame::recv::<Message>(socket, &mut Vec::new()).unwrap().0 {
            Message::Event(Event::Warning { message, .. }) => message[..4].to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_slow_reader_gets_everything_in_order() {
        let (poll, mut peers, (ours, theirs)) = (Poll::new().unwrap(), Peers::default(), pair());
        peers.add(&poll, 1, ours).unwrap();
        let mut sent = 0;
        while peers.connections[&1].queue.len() < 10 {
            peers.tell(&poll, &warning(sent));
            sent += 1;
        }
        for number in 0..sent {
            assert_eq!(received(&theirs), format!("{number:04}"));
            peers.flush(&poll, 1);
        }
        assert!(peers.connections[&1].queue.is_empty());
        assert!(peers.take_closed().is_empty());
    }

    #[test]
    fn a_daemon_that_does_not_read_is_let_go_and_harms_nobody() {
        let (poll, mut peers) = (Poll::new().unwrap(), Peers::default());
        let ((ours, _stuck), (also_ours, reader)) = (pair(), pair());
        peers.add(&poll, 1, ours).unwrap();
        peers.add(&poll, 2, also_ours).unwrap();
        let mut sent = 0;
        while peers.connections.contains_key(&1) {
            peers.tell(&poll, &warning(sent));
            assert_eq!(received(&reader), format!("{sent:04}"));
            sent += 1;
            assert!(sent < 10_000);
        }
        assert!(sent > QUEUE);
        assert_eq!(peers.take_closed(), [1]);
        assert!(peers.take_closed().is_empty());
    }

    #[test]
    fn an_answer_for_somebody_gone_is_dropped() {
        let (poll, mut peers, (ours, theirs)) = (Poll::new().unwrap(), Peers::default(), pair());
        peers.add(&poll, 1, ours).unwrap();
        drop(theirs);
        peers.answer(
            &poll,
            Asker {
                connection: 1,
                seq: 1,
            },
            Ok(Reply::Done),
        );
        assert_eq!(peers.take_closed(), [1]);
        peers.answer(
            &poll,
            Asker {
                connection: 1,
                seq: 2,
            },
            Ok(Reply::Done),
        );
    }

    #[test]
    fn garbage_closes_its_connection_only() {
        let (poll, mut peers) = (Poll::new().unwrap(), Peers::default());
        let ((ours, theirs), (also_ours, _other)) = (pair(), pair());
        peers.add(&poll, 1, ours).unwrap();
        peers.add(&poll, 2, also_ours).unwrap();
        rustix::net::send(&theirs, b"\x07", rustix::net::SendFlags::empty()).unwrap();
        let mut buffer = Vec::new();
        assert!(peers.receive(&poll, 1, &mut buffer).is_none());
        assert!(peers.receive(&poll, 2, &mut buffer).is_none());
        assert_eq!(peers.take_closed(), [1]);
        assert!(peers.connections.contains_key(&2));
    }
}
