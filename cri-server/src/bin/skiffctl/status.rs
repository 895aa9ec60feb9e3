//! `skiffctl status`

use std::process::ExitCode;

use skiff_cri::v1::{
    ContainerState, ListContainersRequest, ListPodSandboxRequest, PodSandboxState, StatusRequest,
    VersionRequest,
};

use crate::Options;
use crate::client::{connect, refusal};

/// Prints version, conditions and counts. Fails when a condition is not met.
pub(crate) async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.load()?;
    let mut client = connect(&config.listen).await?;
    let version = client
        .runtime
        .version(VersionRequest::default())
        .await
        .map_err(refusal)?;
    let version = version.into_inner();
    let status = client
        .runtime
        .status(StatusRequest::default())
        .await
        .map_err(refusal)?;
    let pods = client
        .runtime
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await;
    let pods = pods.map_err(refusal)?.into_inner().items()?;
    let containers = client
        .runtime
        .list_containers(ListContainersRequest::default())
        .await;
    let containers = containers.map_err(refusal)?.into_inner().containers()?;

    println!(
        "{} {} at {}",
        version.runtime_name, version.runtime_version, config.listen
    );
    let conditions = status.into_inner().status.unwrap_or_default().conditions;
    for condition in &conditions {
        let state = if condition.status { "yes" } else { "no" };
        let why = [condition.reason.as_str(), condition.message.as_str()];
        let why: Vec<_> = why.into_iter().filter(|text| !text.is_empty()).collect();
        println!(
            "{:<14}{}",
            condition.r#type,
            [&[state], why.as_slice()].concat().join("  ")
        );
    }
    let ready = pods
        .iter()
        .filter(|pod| pod.state() == PodSandboxState::SandboxReady)
        .count();
    println!("{:<14}{} ({ready} ready)", "Pods", pods.len());
    let running = containers
        .iter()
        .filter(|container| container.state() == ContainerState::ContainerRunning)
        .count();
    println!(
        "{:<14}{} ({running} running)",
        "Containers",
        containers.len()
    );
    let well = !conditions.is_empty() && conditions.iter().all(|condition| condition.status);
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
