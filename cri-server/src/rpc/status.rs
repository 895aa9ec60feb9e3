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
    let features = RuntimeHandlerFeatures {
        recursive_read_only_mounts: daemon.features.recursive_read_only,
        user_namespaces: daemon.features.user_namespaces.is_ok(),
    };
    // The default handler has the empty name; the same runtime can be asked for by name.
    let names = [String::new(), daemon.config.runtime.default_handler.clone()];
    let runtime_handlers = names
        .into_iter()
        .map(|name| RuntimeHandler {
            name,
            features: Some(features),
        })
        .collect();
    Ok(StatusResponse {
        status: Some(RuntimeStatus {
            conditions: vec![runtime_ready(daemon), network_ready(daemon)],
        }),
        info: if request.verbose {
            info::info(daemon)
        } else {
            BTreeMap::new()
        },
        runtime_handlers,
        features: Some(RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: daemon.features.user_namespaces.is_ok(),
            mount_options: true,
        }),
    })
}

fn runtime_ready(daemon: &Daemon) -> RuntimeCondition {
    let status = *daemon.recovered.borrow();
    let (reason, message) = if status {
        ("", "")
    } else {
        (
            "Recovering",
            "the pods of the last start are being found again",
        )
    };
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
