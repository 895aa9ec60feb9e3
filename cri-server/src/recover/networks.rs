//! Asks the plugins (CNI CHECK) whether pods that were brought back still have their networks.
//!
//! What holds a pod's addresses and rules may be flushed while no daemon runs: a firewall that is
//! loaded anew, a bridge that is taken down. Nothing is mended, which is not for a runtime to do;
//! the log names the pod. One pod after another, after everything else, and without being waited
//! for: a plugin may take its time.

use std::sync::Arc;
use std::time::Instant;

use crate::daemon::Daemon;
use crate::pod::{PodHandle, State};
use crate::telemetry::{NetworkOperation, chain};

/// Checks the networks of all pods that are ready now.
pub(super) async fn check(daemon: Arc<Daemon>) {
    for pod in daemon.store.pods().iter().filter(|pod| is_attached(pod)) {
        let began = Instant::now();
        let checked = daemon.cni.check(pod.id().as_str()).await;
        let metrics = &daemon.telemetry.metrics;
        metrics
            .network(NetworkOperation::Check)
            .done(began, &checked);
        let Err(error) = checked else { continue };
        // One that was stopped meanwhile need not have a network.
        if is_attached(pod) {
            let error = chain(&error);
            tracing::warn!(pod = %pod.id(), error, "the pod's network is not as it was set up");
        }
    }
}

fn is_attached(pod: &PodHandle) -> bool {
    let view = pod.view();
    view.state == State::Ready && view.netns.is_some()
}
