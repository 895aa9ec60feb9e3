//! What is told of a container: why there is none, why it did not start, how it ended.

use skiff_runtime::cgroup;
use skiff_shim_proto::message::{Failure, FailureKind};
use skiff_shim_proto::record::ExitRecord;

use super::{Container, Ended, State};
use crate::{failure, record};

/// Exit code of a container whose command could not be reached for another reason than its own:
/// what other runtimes report, too.
const CANNOT_START: i32 = 128;

impl Container {
    /// Why a container that never was does not exist.
    pub(crate) fn failure_to_create(&mut self) -> Failure {
        self.failure.take().unwrap_or_else(|| {
            let how = match self.ended {
                Some(Ended { signal, .. }) if signal != 0 => {
                    format!("was killed by signal {signal}")
                }
                Some(Ended { code, .. }) => format!("ended with exit code {code}"),
                None => "was removed".into(),
            };
            let message = format!(
                "create container {}: the process that builds it {how}",
                self.id
            );
            failure::new(FailureKind::System, message)
        })
    }

    /// Why its command never ran, when it should have. That it ended before anyone wanted it
    /// started is no failure.
    pub(crate) fn failure_to_start(&mut self) -> Option<Failure> {
        if self.starter.is_none() || self.started_at != 0 {
            return None;
        }
        self.failure.take().or_else(|| {
            let message = format!(
                "start container {}: it ended before its command was executed",
                self.id
            );
            Some(failure::new(FailureKind::System, message))
        })
    }

    pub(crate) fn record(&self, failure: Option<&Failure>, now: i64) -> ExitRecord {
        let ended = self.ended.unwrap_or(Ended {
            code: 255,
            signal: 0,
        });
        let code = match failure.map(|failure| failure.kind) {
            Some(FailureKind::Command { exit_code }) => exit_code,
            Some(_) => CANNOT_START,
            None => ended.code,
        };
        ExitRecord {
            version: record::VERSION,
            id: self.id.clone(),
            code,
            signal: ended.signal,
            oom_killed: cgroup::oom_kills(&self.cgroup) > self.earlier_oom_kills,
            started_at: self.started_at,
            finished_at: now,
            start_error: failure.map(|failure| failure.message.clone()),
        }
    }

    /// Whether it has been created and not gone.
    pub(crate) fn is_born(&self) -> bool {
        match self.state {
            State::Creating | State::Abandoned | State::Gone => false,
            State::Removing => self.exit.is_some(),
            State::Created | State::Starting | State::Running | State::Stopped | State::Doomed => {
                true
            }
        }
    }
}
