use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process;

use skiff_runtime::Stdio;
use skiff_shim_proto::message::{Exec, Failure, FailureKind};

use crate::container::Input;
use crate::exec::{self, News, Screen};
use crate::failure;
use crate::peers::Asker;
use crate::poll::{Ready, Source};
use crate::process::Process;
use crate::shim::{Now, Shim};
use crate::stdio::Users;

impl Shim {
    /// Runs a further process in a container. Answered when the process has ended.
    pub(crate) fn exec(&mut self, asker: Asker, mut exec: Exec, fds: Vec<OwnedFd>) -> Now {
        let container = self.find(&exec.id)?;
        self.advance(container, Input::Exec)?;
        if self.execs.values().any(|other| other.id == exec.exec_id) {
            let message = format!("exec {} exists in this pod", exec.exec_id);
            return Err(failure::new(FailureKind::AlreadyExists, message));
        }
        exec.process.set_terminal(Some(exec.terminal));
        let client = Client::new(&exec, fds)?;
        let peers_may_trace = self.containers.values().any(|peer| peer.may_trace);
        let Some(place) = self.containers.get_mut(&container) else {
            return Err(failure::no_container(&exec.id));
        };
        client.give(&place.users, &exec)?;
        let Some(first) = place.process.own() else {
            return self.exec_outside(asker, container, exec, client);
        };
        let stdio = client.stdio(&self.null);
        let mut arguments =
            skiff_runtime::Exec::new(&exec.process, first.pidfd(), &place.cgroup, stdio);
        arguments.user_namespace = place.users.mappings();
        arguments.seccomp = place.filter.as_ref();
        arguments.peers_may_trace = peers_may_trace;
        let is_silent = arguments.is_silent();
        let init = skiff_runtime::exec(arguments).map_err(|e| {
            let failure = failure::of(&e);
            Failure {
                message: format!("exec in container {}: {}", exec.id, failure.message),
                ..failure
            }
        })?;
        let key = self.new_key();
        let watched = if is_silent {
            Ok(News::AtTheEnd)
        } else {
            let source = Source::ExecProgress(key);
            let added = self.poll.add(init.status_fd(), source, Ready::IN);
            added.map(|()| News::Watched)
        };
        if watched.is_err() {
            // The rest follows when it is reaped.
            let _ = crate::sys::send_signal(init.pidfd(), libc::SIGKILL);
        }
        let running = exec::Exec {
            id: exec.exec_id,
            container,
            asker,
            process: Process::Own(init),
            news: *watched.as_ref().unwrap_or(&News::Heard),
            failure: watched
                .err()
                .map(|e| failure::system("watch the exec's progress", &e)),
            ended: None,
            screen: client.screen(),
            size: None,
        };
        self.execs.insert(key, running);
        Ok(None)
    }
}

/// The descriptors that came with an exec.
pub(crate) struct Client {
    input: Option<OwnedFd>,
    output: OwnedFd,
    /// `None` for a terminal.
    error: Option<OwnedFd>,
}

impl Client {
    fn new(exec: &Exec, fds: Vec<OwnedFd>) -> Result<Self, Failure> {
        let needed = 1 + usize::from(exec.stdin) + usize::from(!exec.terminal);
        let wrong =
            || failure::invalid(format!("exec {}: needs {needed} descriptors", exec.exec_id));
        if fds.len() != needed {
            return Err(wrong());
        }
        let mut fds = fds.into_iter();
        Ok(Self {
            input: if exec.stdin { fds.next() } else { None },
            output: fds.next().ok_or_else(wrong)?,
            error: fds.next(),
        })
    }

    /// Gives the pipes that the process gets itself to its user.
    fn give(&self, users: &Users, exec: &Exec) -> Result<(), Failure> {
        if exec.terminal {
            return Ok(());
        }
        let mut pipes = self.input.iter().chain([&self.output]).chain(&self.error);
        pipes
            .try_for_each(|pipe| users.give(pipe, &exec.process))
            .map_err(|e| {
                failure::system(
                    format!("exec {}: give its pipes to its user", exec.exec_id),
                    &e,
                )
            })
    }

    fn stdio<'a>(&'a self, null: &'a OwnedFd) -> Stdio<'a> {
        match &self.error {
            Some(error) => {
                let input = self.input.as_ref().unwrap_or(null);
                Stdio::Fds([input.as_fd(), self.output.as_fd(), error.as_fd()])
            }
            None => Stdio::Terminal,
        }
    }

    /// Keeps what we copy for a terminal, and closes what the process has got itself.
    pub(crate) fn screen(self) -> Screen {
        match self.error {
            Some(_) => Screen::None,
            None => Screen::Client {
                input: self.input,
                output: self.output,
            },
        }
    }
    /// Copies of what the process gets itself, for a command that is to hand them on; `None` for a
    /// terminal.
    pub(crate) fn copies(&self) -> Option<io::Result<[process::Stdio; 3]>> {
        let error = self.error.as_ref()?;
        let copy = |fd: &OwnedFd| fd.try_clone().map(process::Stdio::from);
        let stdin = match &self.input {
            Some(input) => copy(input),
            None => Ok(process::Stdio::null()),
        };
        let all = || Ok([stdin?, copy(&self.output)?, copy(error)?]);
        Some(all())
    }
}
