//! The parts of a pod's start, and where it is put down how long they took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skiff_shim_proto::message::CreateTook;

use super::{Telemetry, trace};

/// A part of the start of a pod with one container, in the order they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Getting a shim: from the pool, or a new one.
    Spare,
    /// Making the pod's namespaces what it asks for, in its shim.
    Netns,
    /// The plugins of the pod's network.
    Cni,
    /// A container's root file system and mounts, as far as they are made outside of it.
    Rootfs,
    /// A container's cgroup with its limits.
    Cgroup,
    /// A container's first process with its namespaces.
    Clone,
    /// What that process builds, up to the point before exec.
    Init,
    /// From being let go to the execution of the command.
    Exec,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Spare,
        Self::Netns,
        Self::Cni,
        Self::Rootfs,
        Self::Cgroup,
        Self::Clone,
        Self::Init,
        Self::Exec,
    ];

    /// Its name in metrics and traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spare => "spare",
            Self::Netns => "netns",
            Self::Cni => "cni",
            Self::Rootfs => "rootfs",
            Self::Cgroup => "cgroup",
            Self::Clone => "clone",
            Self::Init => "init",
            Self::Exec => "exec",
        }
    }
}

/// Takes down the phases of one operation.
#[derive(Debug, Clone)]
pub struct Timeline {
    telemetry: Arc<Telemetry>,
    /// The span of the call, when it is in a trace.
    call: Option<trace::Parent>,
}

impl Timeline {
    /// That of an operation of the call which is being answered.
    pub fn of_call(telemetry: &Arc<Telemetry>) -> Self {
        Self {
            telemetry: Arc::clone(telemetry),
            call: trace::current(),
        }
    }

    /// A phase that began then has ended now.
    pub fn ended(&self, phase: Phase, began: Instant) {
        self.took(phase, began, began.elapsed());
    }

    /// A phase that began then, or soon after it, took so long.
    pub fn took(&self, phase: Phase, began: Instant, took: Duration) {
        self.telemetry.metrics.phase(phase).observe(took);
        if let Some(call) = &self.call {
            call.phase(phase, began, took);
        }
    }

    /// What a shim, asked at that time, tells of a container's creation.
    pub fn created(&self, asked: Instant, took: &CreateTook) {
        let CreateTook {
            rootfs,
            cgroup,
            clone,
            init,
        } = *took;
        let mut began = asked;
        for (phase, nanoseconds) in [
            (Phase::Rootfs, rootfs),
            (Phase::Cgroup, cgroup),
            (Phase::Clone, clone),
            (Phase::Init, init),
        ] {
            let took = Duration::from_nanos(nanoseconds);
            self.took(phase, began, took);
            began += took;
        }
    }
}
