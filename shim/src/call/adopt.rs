use std::time::Instant;

use skiff_shim_proto::message::{Adopt, FailureKind, Reply};

use crate::shim::{Now, Phase, Shim};
use crate::{clock, failure};

impl Shim {
    /// A spare becomes the shim of a pod. One that fails at it is spent and ends.
    pub(crate) fn adopt(&mut self, adopt: &Adopt) -> Now {
        let spare = match std::mem::replace(&mut self.phase, Phase::Spent) {
            Phase::Spare { spare, .. } => spare,
            Phase::Pod(pod) => {
                let message = format!("this shim has pod {} already", pod.id);
                self.phase = Phase::Pod(pod);
                return Err(failure::new(FailureKind::InvalidState, message));
            }
            Phase::Spent => {
                return Err(failure::new(
                    FailureKind::InvalidState,
                    "this shim is ending",
                ));
            }
        };
        let began = Instant::now();
        match spare.adopt(adopt) {
            Ok(pod) => {
                let init_pid = pod.init_pid();
                self.phase = Phase::Pod(pod);
                let took = Some(clock::nanoseconds(began.elapsed()));
                Ok(Some(Reply::Adopted { init_pid, took }))
            }
            Err(failure) => {
                self.leaving = true;
                Err(failure)
            }
        }
    }
}
