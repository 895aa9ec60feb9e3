//! Status: whether pods can be run, and what the runtime offers.

mod info;

use std::collections::BTreeMap;

use skiff_cri::v1::{
    RuntimeCondition, RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus,
    StatusRequest, StatusResponse,
};

use super::RpcError;
use crate::daemon::Daemon;

/// Answers from memory; never waits.
pub async fn handle(daemon: &Daemon, request: StatusRequest) -> Result<StatusResponse, RpcError> {
    let handlers = daemon.handlers.load();
    let runtime_handlers = handlers.all().map(|(name, handler)| {
        let features = handler.features.now();
        RuntimeHandler {
            name: name.to_owned(),
            features: Some(RuntimeHandlerFeatures {
                recursive_read_only_mounts: features.recursive_read_only,
                user_namespaces: features.user_namespaces,
            }),
        }
    });
    Ok(StatusResponse {
        status: Some(RuntimeStatus {
            conditions: vec![runtime_ready(daemon), network_ready(daemon)],
        }),
        info: if request.verbose {
            info::info(daemon)
        } else {
            BTreeMap::new()
        },
        runtime_handlers: runtime_handlers.collect(),
        features: Some(RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: daemon.features.user_namespaces.is_ok(),
            mount_options: true,
        }),
    })
}

/// A kubelet takes no note of handlers before the runtime is ready: one that may yet say what it can do
/// must not be told as one that can do nothing, for which the node's pods would be refused.
fn runtime_ready(daemon: &Daemon) -> RuntimeCondition {
    let (reason, message) = if !*daemon.recovered.borrow() {
        (
            "Recovering",
            "the pods of the last start are being found again",
        )
    } else if !daemon.handlers.load().are_settled() {
        (
            "AskingRuntimes",
            "the runtimes of other handlers are being asked what they can do",
        )
    } else {
        ("", "")
    };
    let status = reason.is_empty();
    let r#type = "RuntimeReady".into();
    RuntimeCondition {
        r#type,
        status,
        reason: reason.into(),
        message: message.into(),
    }
}

fn network_ready(daemon: &Daemon) -> RuntimeCondition {
    let status = daemon.cni.status();
    RuntimeCondition {
        r#type: "NetworkReady".into(),
        status: status.ready,
        reason: status.reason.into(),
        message: status.message.clone(),
    }
}
