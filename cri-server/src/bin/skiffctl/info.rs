//! `skiffctl info`

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};
use skiff_cri::v1::{StatusRequest, StatusResponse};

use crate::Options;
use crate::client::{connect, refusal};

/// Prints the daemon's verbose status as one JSON object.
pub(crate) async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.load()?;
    let mut client = connect(&config.listen).await?;
    let request = StatusRequest { verbose: true };
    let status = client
        .runtime
        .status(request)
        .await
        .map_err(refusal)?
        .into_inner();
    println!("{}", serde_json::to_string_pretty(&object(status))?);
    Ok(ExitCode::SUCCESS)
}

fn object(response: StatusResponse) -> Value {
    let conditions = response.status.unwrap_or_default().conditions;
    let conditions: Vec<_> = conditions
        .into_iter()
        .map(|condition| {
            json!({
                "type": condition.r#type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message,
            })
        })
        .collect();
    let handlers: Vec<_> = response
        .runtime_handlers
        .into_iter()
        .map(|handler| {
            let features = handler.features.unwrap_or_default();
            json!({
                "name": handler.name,
                "recursiveReadOnlyMounts": features.recursive_read_only_mounts,
                "userNamespaces": features.user_namespaces,
            })
        })
        .collect();
    let features = response.features.unwrap_or_default();
    // Values of the info map are JSON themselves, by the CRI's convention.
    let info: BTreeMap<_, _> = response
        .info
        .into_iter()
        .map(|(key, text)| {
            let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            (key, value)
        })
        .collect();
    json!({
        "conditions": conditions,
        "runtimeHandlers": handlers,
        "features": {
            "supplementalGroupsPolicy": features.supplemental_groups_policy,
            "userNamespacesHostNetwork": features.user_namespaces_host_network,
            "mountOptions": features.mount_options,
        },
        "info": info,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_values_are_shown_as_the_json_they_are() {
        let response = StatusResponse {
            info: [
                ("config".to_owned(), "{\"root\":\"/x\"}".to_owned()),
                ("note".to_owned(), "a {".to_owned()),
            ]
            .into(),
            ..Default::default()
        };
        let value = object(response);
        assert_eq!(value["info"]["config"]["root"], "/x");
        assert_eq!(value["info"]["note"], "a {");
    }
}
