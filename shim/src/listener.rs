//! The socket at which daemons that did not start this shim connect. Only root may.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
    sockopt,
};
use rustix::process::umask;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    /// Given up for a moment when there is no descriptor left, to tell whoever connects by
    /// closing: an unaccepted connection would wake the loop for ever.
    reserve: Option<OwnedFd>,
}

impl Listener {
    /// Listens at `path`, made with mode 0600. `reserve` is any descriptor of no other use.
    pub(crate) fn bind(path: &Path, reserve: OwnedFd) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let address = SocketAddrUnix::new(path)
            .map_err(|_| io::Error::other("longer than the 107 bytes of a socket's path"))?;
        let usual = umask(Mode::from_raw_mode(0o177));
        let bound = bind(&socket, &address);
        umask(usual);
        bound?;
        listen(&socket, BACKLOG)?;
        Ok(Self {
            socket,
            reserve: Some(reserve),
        })
    }

    /// A connection of root's; `None` when nobody waits (any more).
    pub(crate) fn accept(&mut self) -> io::Result<Option<OwnedFd>> {
        let connection = match accept_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(connection) => connection,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(None),
            Err(e @ (Errno::MFILE | Errno::NFILE)) => {
                self.turn_away();
                return Err(e.into());
            }
            Err(e) => return Err(e.into()),
        };
        let peer = sockopt::socket_peercred(&connection)?;
        if !peer.uid.is_root() {
            return Err(io::Error::other(format!(
                "process {} of user {} is not root",
                peer.pid.as_raw_nonzero(),
                peer.uid.as_raw()
            )));
        }
        Ok(Some(connection))
    }

    fn turn_away(&mut self) {
        self.reserve = None;
        drop(accept_with(&self.socket, SocketFlags::CLOEXEC));
        self.reserve = rustix::io::fcntl_dupfd_cloexec(&self.socket, 3).ok();
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn reserve() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn the_socket_is_roots_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let mut listener = Listener::bind(&path, reserve()).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(listener.accept().unwrap().is_none());
        let client = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::net::connect(&client, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        let accepted = listener.accept();
        assert_eq!(accepted.is_ok(), rustix::process::getuid().is_root());
    }

    #[test]
    fn a_path_too_long_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let error = Listener::bind(&dir.path().join("x".repeat(108)), reserve()).unwrap_err();
        assert!(error.to_string().contains("107"), "{error}");
    }
}
