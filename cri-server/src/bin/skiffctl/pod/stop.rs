//! `skiffctl pod stop`

use std::process::ExitCode;

use skiff_cri::v1::StopPodSandboxRequest;

use super::resolve;
use crate::client::{Client, refusal};

/// Stops pods and prints their ids.
pub(crate) async fn run(mut client: Client, ids: &[String]) -> anyhow::Result<ExitCode> {
    for pod in resolve(&mut client, ids).await? {
        stop(&mut client, &pod.id).await?;
        println!("{}", pod.id);
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops one pod.
pub(super) async fn stop(client: &mut Client, id: &str) -> anyhow::Result<()> {
    let request = StopPodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    client
        .runtime
        .stop_pod_sandbox(request)
        .await
        .map_err(refusal)?;
    Ok(())
}
