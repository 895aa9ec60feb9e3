//! What a plugin prints: all of it until it is too much, and as much as fits into an error.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe::Receiver;

/// Longest answer, in bytes.
pub(crate) const MAX_ANSWER: usize = 1 << 20;
/// How much of a plugin's complaints goes into an error, in bytes.
pub(crate) const MAX_EXCERPT: usize = 2048;

/// The reading end of a pipe and what came out of it.
pub(crate) struct Capture {
    pipe: Receiver,
    /// At most [`MAX_ANSWER`].
    pub(crate) bytes: Vec<u8>,
    /// There was more.
    pub(crate) overflown: bool,
}

impl Capture {
    pub(crate) fn new(pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            pipe: Receiver::from_owned_fd(pipe)?,
            bytes: Vec::new(),
            overflown: false,
        })
    }

    /// Reads until cancelled; completes only with an error.
    pub(crate) async fn fill(&mut self) -> io::Error {
        let mut chunk = [0; 4096];
        loop {
            if let Err(error) = self.pipe.readable().await {
                return error;
            }
            match self.pipe.try_read(&mut chunk) {
                Ok(0) => return std::future::pending().await,
                Ok(n) => self.keep(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return error,
            }
        }
    }

    /// Takes what is in the pipe now. It asks the kernel, not the reactor, which may not have
    /// heard yet of what the plugin wrote just before it exited.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        while !self.overflown {
            match rustix::io::read(&self.pipe, &mut chunk) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
                Ok(n) => self.keep(&chunk[..n]),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn keep(&mut self, chunk: &[u8]) {
        let room = MAX_ANSWER.saturating_sub(self.bytes.len());
        self.overflown |= chunk.len() > room;
        self.bytes
            .extend_from_slice(&chunk[..chunk.len().min(room)]);
    }

    /// The end of it, for an error.
    pub(crate) fn tail(&self) -> String {
        let start = self.bytes.len().saturating_sub(MAX_EXCERPT);
        clean(&self.bytes[start..])
    }
}

/// The beginning of an answer, for an error.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    clean(&bytes[..bytes.len().min(MAX_EXCERPT)])
}

/// Printable on one line.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
