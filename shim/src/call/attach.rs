use std::os::fd::OwnedFd;

use skiff_shim_proto::message::{Attach, Failure, Reply};

use crate::attach::{Session, Typing};
use crate::container::{Container, Input};
use crate::failure;
use crate::log::Stream;
use crate::peers::Asker;
use crate::poll::Key;
use crate::shim::{Now, Shim};

impl Shim {
    /// Attaches a client to a container. Answered at the end of the session.
    pub(crate) fn attach(&mut self, asker: Asker, attach: &Attach, fds: Vec<OwnedFd>) -> Now {
        let place = self.find(&attach.id)?;
        self.advance(place, Input::Attach)?;
        let client = Client::new(attach, fds)?;
        let key = self.new_key();
        let Some(container) = self.containers.get_mut(&place) else {
            return Err(failure::no_container(&attach.id));
        };
        let failed = |e| failure::system(format!("attach to container {}", attach.id), &e);
        let mut session = Session::new(place, asker);
        if let Some(from) = client.stdin
            && let Some(to) = container.typed_into().transpose()
        {
            session
                .type_in(&self.poll, key, from, to.map_err(failed)?)
                .map_err(failed)?;
        }
        container
            .output
            .views()
            .add(&self.poll, key, client.stdout, client.stderr)
            .map_err(failed)?;
        self.sessions.insert(key, session);
        Ok(None)
    }

    /// The client types, or the container can take more.
    pub(crate) fn session_ready(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let typing = session.copy(&self.poll);
        let place = session.container;
        let once = |c: &Container| c.stdin_once && !c.terminal;
        let ended = matches!(typing, Typing::Ended | Typing::Left);
        if ended && self.containers.get(&place).is_some_and(once) {
            self.close_stdin(place);
        }
        self.end_if_idle(key);
    }

    /// Closes a container's stdin: every client's copy of it, too.
    fn close_stdin(&mut self, container: Key) {
        if let Some(container) = self.containers.get_mut(&container) {
            container.stdin = None;
        }
        let others = self.sessions.values_mut();
        for session in others.filter(|session| session.container == container) {
            session.stop_typing(&self.poll);
        }
    }

    /// A client has closed one of its pipes.
    pub(crate) fn client_hung_up(&mut self, key: Key, stream: Stream) {
        let Some(session) = self.sessions.get(&key) else {
            return;
        };
        let Some(container) = self.containers.get_mut(&session.container) else {
            return;
        };
        let views = container.output.views();
        views.hung_up(&self.poll, key, stream);
        // Who has closed all of them has gone, and what it has typed may wait for ever.
        if !views.has(key) {
            self.end_session(key);
        }
    }

    /// Ends a session whose client neither types nor sees anything any more.
    fn end_if_idle(&mut self, key: Key) {
        let Some(session) = self.sessions.get(&key) else {
            return;
        };
        let Some(container) = self.containers.get_mut(&session.container) else {
            return;
        };
        if !session.has_input() && !container.output.views().has(key) {
            self.end_session(key);
        }
    }

    /// Ends the sessions of a container that has ended.
    pub(crate) fn end_sessions_in(&mut self, container: Key) {
        self.end_sessions(|session| session.container == container);
    }

    /// Ends the sessions of a connection that is closed.
    pub(crate) fn end_sessions_of(&mut self, connection: Key) {
        self.end_sessions(|session| session.asker.connection == connection);
    }

    fn end_sessions(&mut self, which: impl Fn(&Session) -> bool) {
        let ending = self.sessions.iter().filter(|(_, session)| which(session));
        let keys: Vec<Key> = ending.map(|(&key, _)| key).collect();
        for key in keys {
            self.end_session(key);
        }
    }

    fn end_session(&mut self, key: Key) {
        let Some(mut session) = self.sessions.remove(&key) else {
            return;
        };
        session.stop_typing(&self.poll);
        if let Some(container) = self.containers.get_mut(&session.container) {
            container.output.views().remove(&self.poll, key);
        }
        self.peers
            .answer(&self.poll, session.asker, Ok(Reply::Done));
    }
}

/// The descriptors that came with an attach.
struct Client {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Client {
    fn new(attach: &Attach, fds: Vec<OwnedFd>) -> Result<Self, Failure> {
        let wanted = [attach.stdin, attach.stdout, attach.stderr];
        let needed = wanted.iter().filter(|wanted| **wanted).count();
        if needed == 0 || fds.len() != needed {
            return Err(failure::invalid(format!(
                "attach to container {}: {} descriptors, and {needed} are asked for",
                attach.id,
                fds.len()
            )));
        }
        let mut fds = fds.into_iter();
        let [stdin, stdout, stderr] = wanted.map(|wanted| wanted.then(|| fds.next()).flatten());
        Ok(Self {
            stdin,
            stdout,
            stderr,
        })
    }
}
