//! Further processes in containers, while they run.

use std::os::fd::OwnedFd;

use rustix::termios::Winsize;
use skiff_shim_proto::message::{Failure, Reply};

use crate::container::Ended;
use crate::peers::{Answer, Asker};
use crate::poll::{Key, Poll};
use crate::process::Process;
use crate::terminal::Terminal;

/// One process that was asked for by an Exec, until its end is told.
#[derive(Debug)]
pub(crate) struct Exec {
    /// The daemon's number.
    pub(crate) id: u64,
    /// The container it is in.
    pub(crate) container: Key,
    /// Who waits for its end.
    pub(crate) asker: Asker,
    pub(crate) process: Process,
    pub(crate) news: News,
    /// Why the child gave up.
    pub(crate) failure: Option<Failure>,
    pub(crate) ended: Option<Ended>,
    pub(crate) screen: Screen,
    /// The size that its terminal is to have once it is there.
    pub(crate) size: Option<Winsize>,
}

/// When the child's status descriptor is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// When there is something: it is watched.
    Watched,
    /// When the child has ended: what it says before, nobody waits for. A probe spares a wake-up.
    AtTheEnd,
    /// All has been said.
    Heard,
}

/// Where an exec's terminal is shown.
#[derive(Debug)]
pub(crate) enum Screen {
    /// It has no terminal: its process holds the client's pipes itself.
    None,
    /// The client's ends, until the terminal is there.
    Client {
        input: Option<OwnedFd>,
        output: OwnedFd,
    },
    /// The two are connected.
    Terminal(Terminal),
}

impl Exec {
    /// Connects the terminal with its client.
    pub(crate) fn connect(
        &mut self,
        poll: &Poll,
        key: Key,
        master: OwnedFd,
    ) -> rustix::io::Result<()> {
        if let Screen::Client { input, output } = std::mem::replace(&mut self.screen, Screen::None)
        {
            let terminal = Terminal::new(poll, key, master, input, output)?;
            if let Some(size) = self.size.take() {
                terminal.resize(size)?;
            }
            self.screen = Screen::Terminal(terminal);
        }
        Ok(())
    }

    /// Changes the size of its terminal. Without one there is nothing to change.
    pub(crate) fn resize(&mut self, size: Winsize) -> rustix::io::Result<()> {
        match &self.screen {
            Screen::Terminal(terminal) => terminal.resize(size),
            Screen::Client { .. } => {
                self.size = Some(size);
                Ok(())
            }
            Screen::None => Ok(()),
        }
    }

    /// Copies between terminal and client. A client that cannot be waited for is let go.
    pub(crate) fn copy(&mut self, poll: &Poll) {
        if let Screen::Terminal(terminal) = &mut self.screen {
            let copied = match self.ended {
                Some(_) => terminal.process_ended(poll),
                None => terminal.copy(poll),
            };
            if copied.is_err() {
                self.disconnect(poll);
            }
        }
    }

    /// Nobody reads what is shown any more; the process keeps its terminal.
    pub(crate) fn leave_client(&mut self, poll: &Poll) {
        if let Screen::Terminal(terminal) = &mut self.screen
            && terminal.leave_client(poll).is_err()
        {
            self.disconnect(poll);
        }
    }

    /// Ends the copying. A process that still runs is told that its terminal has hung up.
    pub(crate) fn disconnect(&mut self, poll: &Poll) {
        if let Screen::Terminal(terminal) = &mut self.screen {
            terminal.close(poll);
        }
        self.screen = Screen::None;
    }

    /// Hears nothing more of the child.
    pub(crate) fn hear_no_more(&mut self, poll: &Poll) {
        if std::mem::replace(&mut self.news, News::Heard) == News::Watched
            && let Some(init) = self.process.own()
        {
            poll.remove(init.status_fd());
        }
    }

    /// What to tell, once the process has ended and its terminal is copied.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let ended = self.ended?;
        if matches!(&self.screen, Screen::Terminal(terminal) if !terminal.is_done()) {
            return None;
        }
        Some(match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(Reply::ExecExited { code: ended.code }),
        })
    }
}
