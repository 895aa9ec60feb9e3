//! Connections to ports of the pod, made for the daemon, which is not in its network namespace.
//!
//! A server may listen on one of the two loopback addresses only, so the other is tried, too.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use crate::peers::Asker;
use crate::poll::{Key, Poll, Ready, Source, Watched};

/// A connection being made.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) asker: Asker,
    pub(crate) port: u16,
    socket: Watched,
    /// What to try when this fails.
    next: Option<SocketAddr>,
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum Step {
    /// Its socket says when it goes on.
    Waits(Dial),
    /// It stands; the socket does not block.
    Stands(OwnedFd),
}

impl Dial {
    /// Begins to connect to the port.
    pub(crate) fn new(poll: &Poll, key: Key, asker: Asker, port: u16) -> Result<Self> {
        let first = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let second = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let (socket, next) = match begin(first) {
            Ok(socket) => (socket, Some(second)),
            Err(e) => (begin(second).map_err(|_| e)?, None),
        };
        Ok(Self {
            asker,
            port,
            socket: watch(poll, key, socket)?,
            next,
        })
    }

    /// The socket is ready: the connection stands, or has failed and the other address is tried.
    /// The error is that of the first address.
    pub(crate) fn go_on(mut self, poll: &Poll, key: Key) -> Result<Step> {
        let outcome = sockopt::socket_error(&self.socket)?;
        self.socket.want(poll, Ready::empty())?;
        let Err(failed) = outcome else {
            return Ok(Step::Stands(self.socket.into_fd()));
        };
        let next = self.next.take().ok_or(failed)?;
        let socket = begin(next).map_err(|_| failed)?;
        self.socket = watch(poll, key, socket)?;
        Ok(Step::Waits(self))
    }
}

fn watch(poll: &Poll, key: Key, socket: OwnedFd) -> Result<Watched> {
    let mut socket = Watched::new(socket, Source::Dial(key));
    socket.want(poll, Ready::OUT)?;
    Ok(socket)
}

/// A socket that connects, or has.
fn begin(to: SocketAddr) -> Result<OwnedFd> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn asker() -> Asker {
        Asker {
            connection: 1,
            seq: 1,
        }
    }

    fn dial(port: u16) -> Result<OwnedFd> {
        let poll = Poll::new()?;
        let mut dial = Dial::new(&poll, 1, asker(), port)?;
        loop {
            assert_eq!(poll.wait(None)?.count(), 1);
            match dial.go_on(&poll, 1)? {
                Step::Waits(again) => dial = again,
                Step::Stands(socket) => return Ok(socket),
            }
        }
    }

    #[test]
    fn a_server_is_found_on_either_loopback_address() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Not every machine has IPv6.
            let Ok(server) = TcpListener::bind(address) else {
                continue;
            };
            let socket = dial(server.local_addr().unwrap().port()).unwrap();
            rustix::io::write(&socket, b"hello").unwrap();
            let mut said = [0; 5];
            std::io::Read::read_exact(&mut server.accept().unwrap().0, &mut said).unwrap();
            assert_eq!(&said, b"hello");
        }
    }

    #[test]
    fn a_port_without_a_server_refuses() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        drop(server);
        assert_eq!(dial(port).unwrap_err(), Errno::CONNREFUSED);
    }
}
