//! Pipes between a container and its shim.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process;

use rustix::pipe::{PipeFlags, pipe_with};
use skiff_runtime::Stdio;
use skiff_shim_proto::message::{Create, Failure};

use crate::failure;
use crate::log::Stream;
use crate::stdio::Users;

/// Pipes of a container: for each a reading and a writing end.
pub(crate) struct Pipes {
    /// Only with `Create.stdin`, and without a terminal.
    stdin: Option<(OwnedFd, OwnedFd)>,
    /// `None` with a terminal.
    output: Option<[(OwnedFd, OwnedFd); 2]>,
}

impl Pipes {
    pub(crate) fn new(create: &Create) -> Result<Self, Failure> {
        let process = create.spec.process().as_ref();
        if process
            .and_then(|process| process.terminal())
            .unwrap_or(false)
        {
            return Ok(Self {
                stdin: None,
                output: None,
            });
        }
        let pipe = || {
            pipe_with(PipeFlags::CLOEXEC)
                .map_err(|e| failure::system(format!("make pipes for container {}", create.id), &e))
        };
        Ok(Self {
            stdin: if create.stdin { Some(pipe()?) } else { None },
            output: Some([pipe()?, pipe()?]),
        })
    }

    /// The container's ends.
    pub(crate) fn stdio<'a>(&'a self, null: &'a OwnedFd) -> Stdio<'a> {
        let Some([(_, stdout), (_, stderr)]) = &self.output else {
            return Stdio::Terminal;
        };
        let stdin = self.stdin.as_ref().map_or(null, |(reader, _)| reader);
        Stdio::Fds([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
    }

    /// Gives the container's ends to its user.
    pub(crate) fn give(&self, users: &Users, create: &Create) -> rustix::io::Result<()> {
        let Some(process) = create.spec.process() else {
            return Ok(());
        };
        let input = self.stdin.iter().map(|(reader, _)| reader);
        let output = self.output.iter().flatten().map(|(_, writer)| writer);
        input
            .chain(output)
            .try_for_each(|end| users.give(end, process))
    }

    /// Our ends of its output; the container's are closed with this.
    pub(crate) fn readers(&mut self) -> impl Iterator<Item = (Stream, OwnedFd)> {
        let streams = [Stream::Stdout, Stream::Stderr];
        let readers = self
            .output
            .take()
            .map(|pipes| pipes.map(|(reader, _)| reader));
        streams.into_iter().zip(readers.into_iter().flatten())
    }
    /// The container has a terminal and no pipes.
    pub(crate) fn is_terminal(&self) -> bool {
        self.output.is_none()
    }

    /// Our end of its stdin; the container's is closed with this.
    pub(crate) fn take_stdin(&mut self) -> Option<OwnedFd> {
        self.stdin.take().map(|(_, writer)| writer)
    }

    /// Copies of the container's ends, for a command that is to hand them on; `None` with a
    /// terminal.
    pub(crate) fn copies(&self) -> Option<io::Result<[process::Stdio; 3]>> {
        let [(_, stdout), (_, stderr)] = self.output.as_ref()?;
        let copy = |fd: &OwnedFd| fd.try_clone().map(process::Stdio::from);
        let stdin = match &self.stdin {
            Some((reader, _)) => copy(reader),
            None => Ok(process::Stdio::null()),
        };
        let all = || Ok([stdin?, copy(stdout)?, copy(stderr)?]);
        Some(all())
    }
}
