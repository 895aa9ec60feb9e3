//! `skiffctl pod rm`

use std::process::ExitCode;

use skiff_cri::v1::RemovePodSandboxRequest;

use super::{resolve, stop};
use crate::client::{Client, refusal};

/// Stops and removes pods and prints their ids.
pub(crate) async fn run(mut client: Client, ids: &[String]) -> anyhow::Result<ExitCode> {
    for id in resolve(&mut client, ids).await? {
        remove(&mut client, &id).await?;
        println!("{id}");
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
