//! Copies between an exec's terminal and its client.
//!
//! Each direction has one buffer, filled when it is empty and emptied before it is filled again:
//! a client that does not read stops its own process, and nothing else.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::poll::{Key, Poll, Ready, Source, Watched};

/// Most bytes copied at once: what the kernel keeps of a terminal's output.
const CHUNK: usize = 4096;
/// Most bytes taken from the terminal after its process has ended, so that somebody else who
/// holds it cannot keep the exec alive. More than the kernel ever keeps.
const LAST: usize = 64 * 1024;

/// An exec's terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// `None` once all its other ends are closed.
    master: Option<Watched>,
    /// `None` when there is none, or at its end.
    input: Option<Watched>,
    /// `None` when nobody reads it any more.
    output: Option<Watched>,
    typed: Vec<u8>,
    shown: Vec<u8>,
    /// Bytes still to be taken, once the process has ended.
    left: Option<usize>,
}

impl Terminal {
    /// Begins to copy. The three must be descriptors that can be waited for.
    pub(crate) fn new(
        poll: &Poll,
        key: Key,
        master: OwnedFd,
        input: Option<OwnedFd>,
        output: OwnedFd,
    ) -> Result<Self> {
        let watched = |fd: OwnedFd, source| {
            rustix::io::ioctl_fionbio(&fd, true)?;
            Ok::<_, Errno>(Watched::new(fd, source))
        };
        let mut terminal = Self {
            master: Some(watched(master, Source::Terminal(key))?),
            input: input
                .map(|fd| watched(fd, Source::TerminalInput(key)))
                .transpose()?,
            output: Some(watched(output, Source::TerminalOutput(key))?),
            typed: Vec::new(),
            shown: Vec::new(),
            left: None,
        };
        terminal.watch(poll)?;
        Ok(terminal)
    }

    /// Changes its size, if it is still there.
    pub(crate) fn resize(&self, size: Winsize) -> Result<()> {
        self.master
            .as_ref()
            .map_or(Ok(()), |master| tcsetwinsize(master, size))
    }

    /// Copies what can be copied now, in both directions.
    pub(crate) fn copy(&mut self, poll: &Poll) -> Result<()> {
        self.copy_typed(poll);
        self.copy_shown(poll);
        self.watch(poll)
    }

    /// The process has ended: what it left in the terminal is copied, and no more.
    pub(crate) fn process_ended(&mut self, poll: &Poll) -> Result<()> {
        self.left.get_or_insert(LAST);
        close(poll, &mut self.input);
        self.typed.clear();
        self.copy(poll)
    }

    /// Whether everything has been copied after the end of the process.
    pub(crate) fn is_done(&self) -> bool {
        self.left.is_some() && self.master.is_none() && self.shown.is_empty()
    }

    /// The client is not served any more; what would be shown is dropped.
    pub(crate) fn leave_client(&mut self, poll: &Poll) -> Result<()> {
        close(poll, &mut self.input);
        close(poll, &mut self.output);
        self.copy(poll)
    }

    /// Stops copying, and hangs up.
    pub(crate) fn close(&mut self, poll: &Poll) {
        for end in [&mut self.master, &mut self.input, &mut self.output] {
            close(poll, end);
        }
        self.shown.clear();
        self.left = Some(0);
    }

    fn copy_typed(&mut self, poll: &Poll) {
        if self.typed.is_empty()
            && let Some(input) = &self.input
        {
            match read(input, CHUNK) {
                Ok(Some(bytes)) if bytes.is_empty() => close(poll, &mut self.input),
                Ok(bytes) => self.typed = bytes.unwrap_or_default(),
                Err(_) => close(poll, &mut self.input),
            }
        }
        match &self.master {
            Some(master) if write(master, &mut self.typed).is_ok() => {}
            _ => self.typed.clear(),
        }
    }

    fn copy_shown(&mut self, poll: &Poll) {
        self.show(poll);
        while self.shown.is_empty()
            && let Some(master) = &self.master
        {
            let most = self.left.map_or(CHUNK, |left| left.min(CHUNK));
            match read(master, most) {
                Ok(Some(bytes)) if !bytes.is_empty() => {
                    if let Some(left) = &mut self.left {
                        *left -= bytes.len();
                    }
                    self.shown = bytes;
                }
                // Nothing now; after the end of the process that means nothing more.
                Ok(None) if self.left.is_none() => return,
                // All other ends are closed (EIO), or enough was taken.
                _ => close(poll, &mut self.master),
            }
            self.show(poll);
            if self.left.is_none() {
                return;
            }
        }
    }

    fn show(&mut self, poll: &Poll) {
        match &self.output {
            Some(output) if write(output, &mut self.shown).is_ok() => {}
            _ => {
                self.shown.clear();
                close(poll, &mut self.output);
            }
        }
    }

    /// Waits for what is needed to go on, and for nothing else.
    fn watch(&mut self, poll: &Poll) -> Result<()> {
        let when = |condition: bool, interest| if condition { interest } else { Ready::empty() };
        let can_take = self.shown.is_empty();
        let can_type = self.typed.is_empty();
        if let Some(master) = &mut self.master {
            master.want(
                poll,
                when(can_take, Ready::IN) | when(!can_type, Ready::OUT),
            )?;
        }
        if let Some(input) = &mut self.input {
            input.want(poll, when(can_type, Ready::IN))?;
        }
        if let Some(output) = &mut self.output {
            output.want(poll, when(!can_take, Ready::OUT))?;
        }
        Ok(())
    }
}

/// Stops watching a descriptor and closes it.
pub(crate) fn close(poll: &Poll, end: &mut Option<Watched>) {
    if let Some(mut watched) = end.take() {
        // Removed first: a child just cloned may hold a copy that keeps it in the epoll set.
        let _ = watched.want(poll, Ready::empty());
    }
}

/// Up to `most` bytes; none at the end, `None` when there is nothing now.
pub(crate) fn read(from: impl AsFd, most: usize) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; most];
    match rustix::io::read(from, &mut bytes) {
        Ok(count) => {
            bytes.truncate(count);
            Ok(Some(bytes))
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes what can be written now and keeps the rest.
pub(crate) fn write(to: impl AsFd, bytes: &mut Vec<u8>) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    match rustix::io::write(to, bytes) {
        Ok(count) => {
            bytes.drain(..count);
            Ok(())
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use rustix::pipe::{PipeFlags, pipe_with};

    /// A terminal played by a pair of sockets.
    struct Scene {
        poll: Poll,
        terminal: Terminal,
        process: OwnedFd,
        typing: OwnedFd,
        screen: OwnedFd,
    }

    fn scene() -> Scene {
        let flags = SocketFlags::CLOEXEC;
        let (master, process) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
        let ((input, typing), (screen, output)) = (pipe(), pipe());
        rustix::io::ioctl_fionbio(&process, true).unwrap();
        rustix::io::ioctl_fionbio(&screen, true).unwrap();
        let poll = Poll::new().unwrap();
        let terminal = Terminal::new(&poll, 1, master, Some(input), output).unwrap();
        Scene {
            poll,
            terminal,
            process,
            typing,
            screen,
        }
    }

    fn take(from: &OwnedFd) -> Vec<u8> {
        let mut all = Vec::new();
        while let Ok(Some(bytes)) = read(from, 1 << 20) {
            if bytes.is_empty() {
                break;
            }
            all.extend(bytes);
        }
        all
    }

    #[test]
    fn both_directions_are_copied() {
        let mut s = scene();
        rustix::io::write(&s.typing, b"typed").unwrap();
        rustix::io::write(&s.process, b"shown").unwrap();
        s.terminal.copy(&s.poll).unwrap();
        assert_eq!(take(&s.process), b"typed");
        assert_eq!(take(&s.screen), b"shown");
    }

    #[test]
    fn a_client_that_does_not_read_stops_the_copying_and_loses_nothing() {
        let mut s = scene();
        let flood: Vec<u8> = (0..150_000u32).map(|number| number as u8).collect();
        let (mut written, mut shown) = (0, Vec::new());
        for round in 0.. {
            written += rustix::io::write(&s.process, &flood[written..]).unwrap_or(0);
            s.terminal.copy(&s.poll).unwrap();
            if round % 100 == 99 {
                shown.extend(take(&s.screen));
            }
            if shown.len() == flood.len() {
                break;
            }
        }
        assert_eq!(shown, flood);
    }

    #[test]
    fn a_terminal_that_somebody_keeps_open_is_done_after_the_process() {
        let mut s = scene();
        rustix::io::write(&s.process, b"last words").unwrap();
        s.terminal.process_ended(&s.poll).unwrap();
        assert!(s.terminal.is_done());
        assert_eq!(take(&s.screen), b"last words");
    }

    #[test]
    fn last_words_wait_for_a_slow_client() {
        let mut s = scene();
        let mut stuffed = 0;
        while s.terminal.shown.is_empty() {
            stuffed += rustix::io::write(&s.process, &[b'x'; CHUNK]).unwrap();
            s.terminal.copy(&s.poll).unwrap();
        }
        s.terminal.process_ended(&s.poll).unwrap();
        assert!(!s.terminal.is_done());
        let shown = take(&s.screen).len();
        s.terminal.process_ended(&s.poll).unwrap();
        assert!(s.terminal.is_done());
        assert_eq!(shown + take(&s.screen).len(), stuffed);
    }

    #[test]
    fn a_client_that_is_gone_does_not_stop_the_process() {
        let mut s = scene();
        drop(std::mem::replace(
            &mut s.screen,
            pipe_with(PipeFlags::CLOEXEC).unwrap().0,
        ));
        for _ in 0..100 {
            rustix::io::write(&s.process, &[b'x'; CHUNK]).unwrap();
            s.terminal.copy(&s.poll).unwrap();
        }
        s.terminal.process_ended(&s.poll).unwrap();
        assert!(s.terminal.is_done());
    }
}
