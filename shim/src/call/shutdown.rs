use skiff_shim_proto::message::Reply;

use crate::peers::Asker;
use crate::poll::Key;
use crate::shim::{Now, Phase, Shim};
use crate::{failure, sys};

impl Shim {
    /// Ends the pod and this process. Answered when nothing is left, with the last breath.
    pub(crate) fn shutdown(&mut self, asker: Asker) -> Now {
        if !matches!(self.phase, Phase::Pod(_)) {
            self.leaving = true;
            return Ok(Some(Reply::Done));
        }
        self.enders.push(asker);
        let keys: Vec<Key> = self.containers.keys().copied().collect();
        for key in keys {
            self.doom(key);
        }
        self.end_if_empty();
        Ok(None)
    }

    /// Goes on with the end of the pod when its last container or its init is gone.
    pub(crate) fn end_if_empty(&mut self) {
        if self.enders.is_empty() || !self.containers.is_empty() {
            return;
        }
        let Phase::Pod(pod) = &mut self.phase else {
            return;
        };
        if let Some(init) = pod.init() {
            // It can only have ended already. Goes on when it is reaped.
            let _ = sys::send_signal(std::os::fd::AsFd::as_fd(&init.pidfd), libc::SIGKILL);
            return;
        }
        let ended = pod
            .let_go()
            .map(|()| Reply::Done)
            .map_err(|e| failure::of(&e));
        self.leaving = ended.is_ok();
        for asker in std::mem::take(&mut self.enders) {
            let answer = match &ended {
                Ok(_) => Ok(Reply::Done),
                Err(failure) => Err(failure.clone()),
            };
            self.peers.answer(&self.poll, asker, answer);
        }
    }
}
