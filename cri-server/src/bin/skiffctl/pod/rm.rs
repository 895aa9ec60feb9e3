//! `skiffctl pod rm`

use std::process::ExitCode;

use skiff_cri::v1::RemovePodSandboxRequest;

use super::{logs, resolve, stop};
use crate::client::{Client, refusal};

/// Stops and removes pods and prints their ids.
pub(crate) async fn run(mut client: Client, ids: &[String]) -> anyhow::Result<ExitCode> {
    for pod in resolve(&mut client, ids).await? {
        remove(&mut client, &pod.id).await?;
        // Logs belong to who made the pod; a kubelet removes its own.
        let metadata = pod.metadata.unwrap_or_default();
        if metadata.namespace == logs::NAMESPACE {
            logs::remove(&logs::directory(&metadata.name, &metadata.uid)?)?;
        }
        println!("{}", pod.id);
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops and removes one pod.
pub(super) async fn remove(client: &mut Client, id: &str) -> anyhow::Result<()> {
    stop::stop(client, id).await?;
    let request = RemovePodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    client
        .runtime
        .remove_pod_sandbox(request)
        .await
        .map_err(refusal)?;
    Ok(())
}
