//! Processes that have ended: first processes of containers, execs, the pod's init, and orphans
//! that came to us because nobody nearer reaps them.

use rustix::process::{WaitOptions, wait};
use skiff_runtime::Progress;
use skiff_shim_proto::message::Event;

use crate::container::Ended;
use crate::exec::News;
use crate::failure;
use crate::poll::Key;
use crate::shim::{Phase, Shim};

impl Shim {
    /// Reaps everything there is to reap.
    pub(crate) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            self.reaped(pid.as_raw_nonzero().get(), Ended::from_status(status));
        }
    }

    fn reaped(&mut self, pid: i32, ended: Ended) {
        if self.tool_ended(pid, ended) || self.update_ended(pid, ended) {
            return;
        }
        let container = self
            .containers
            .iter()
            .find(|(_, c)| c.ended.is_none() && c.process.pid() == pid)
            .map(|(&key, _)| key);
        let exec = self
            .execs
            .iter()
            .find(|(_, e)| e.ended.is_none() && e.process.pid() == pid)
            .map(|(&key, _)| key);
        if let Some(key) = container {
            self.container_ended(key, ended);
        } else if let Some(key) = exec {
            self.exec_ended(key, ended);
        } else if self.pod().is_ok_and(|pod| pod.init_pid() == Some(pid)) {
            self.pod_init_ended(pid, ended);
        } else {
            self.orphan_ended(pid, ended);
        }
    }

    /// With the init its PID namespace is gone, and so are the containers in it.
    fn pod_init_ended(&mut self, pid: i32, ended: Ended) {
        let Phase::Pod(pod) = &mut self.phase else {
            return;
        };
        pod.init_ended();
        if !self.enders.is_empty() {
            self.end_if_empty();
            return;
        }
        let message = format!(
            "the init of the pod's PID namespace, process {pid}, has ended with exit code {}; \
             no container can be run in this pod any more",
            ended.code
        );
        pod.broken = Some(message.clone());
        self.peers
            .tell(&self.poll, &Event::Broken { reason: message });
    }

    /// The child that becomes an exec's process has something to say.
    pub(crate) fn exec_news(&mut self, key: Key) {
        let Some(exec) = self
            .execs
            .get_mut(&key)
            .filter(|exec| exec.news != News::Heard)
        else {
            return;
        };
        let Some(init) = exec.process.own() else {
            return;
        };
        let progress = init.progress();
        if matches!(progress, Ok(Progress::Building | Progress::Ready { .. })) {
            return;
        }
        exec.hear_no_more(&self.poll);
        let failure = match progress {
            Ok(Progress::Running {
                console: Some(master),
            }) => exec
                .connect(&self.poll, key, master)
                .err()
                .map(|e| failure::system("connect the terminal with its client", &e)),
            Ok(Progress::Failed(reason)) => Some(failure::of_child(&reason)),
            Ok(_) => None,
            Err(e) => Some(failure::of(&e)),
        };
        if failure.is_some() {
            exec.failure = failure;
            // It exits by itself, or has to.
            let _ = exec.process.signal(libc::SIGKILL);
        }
    }

    fn exec_ended(&mut self, key: Key, ended: Ended) {
        // What it said before it ended was said before.
        self.exec_news(key);
        let Some(exec) = self.execs.get_mut(&key) else {
            return;
        };
        exec.hear_no_more(&self.poll);
        exec.ended = Some(ended);
        exec.copy(&self.poll);
        self.finish_exec(key);
    }

    /// Answers an exec that is over.
    pub(crate) fn finish_exec(&mut self, key: Key) {
        let Some(exec) = self.execs.get_mut(&key) else {
            return;
        };
        if let Some(answer) = exec.answer() {
            let asker = exec.asker;
            exec.disconnect(&self.poll);
            self.execs.remove(&key);
            self.peers.answer(&self.poll, asker, answer);
        }
    }
}
