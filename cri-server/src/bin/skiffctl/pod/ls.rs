//! `skiffctl pod ls`

use std::process::ExitCode;

use skiff_cri::v1::{
    Container, ContainerState, ListContainersRequest, ListPodSandboxRequest, PodSandbox,
    PodSandboxState,
};

use crate::client::{Client, refusal};

/// Prints a line per pod, and one below it per container.
pub(crate) async fn run(mut client: Client) -> anyhow::Result<ExitCode> {
    let answer = client
        .runtime
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await;
    let pods = answer.map_err(refusal)?.into_inner().items()?;
    let answer = client
        .runtime
        .list_containers(ListContainersRequest::default())
        .await;
    let containers = answer.map_err(refusal)?.into_inner().containers()?;
    for line in lines(&pods, &containers) {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(pods: &[PodSandbox], containers: &[Container]) -> Vec<String> {
    let mut lines = Vec::new();
    for pod in pods {
        let metadata = pod.metadata.clone().unwrap_or_default();
        let state = match pod.state() {
            PodSandboxState::SandboxReady => "ready",
            PodSandboxState::SandboxNotready => "stopped",
        };
        let name = format!("{}/{}", metadata.namespace, metadata.name);
        lines.push(format!("{}  {state:<8}  {name}", short(&pod.id)));
        for container in containers.iter().filter(|c| c.pod_sandbox_id == pod.id) {
            let name = container.metadata.clone().unwrap_or_default().name;
            let state = match container.state() {
                ContainerState::ContainerCreated => "created",
                ContainerState::ContainerRunning => "running",
                ContainerState::ContainerExited => "exited",
                ContainerState::ContainerUnknown => "unknown",
            };
            let image = container.image.clone().unwrap_or_default().image;
            lines.push(format!(
                "  {}  {state:<8}  {name}  {image}",
                short(&container.id)
            ));
        }
    }
    lines
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_cri::v1::{ContainerMetadata, ImageSpec, PodSandboxMetadata};

    #[test]
    fn containers_are_listed_below_their_pod() {
        let pod = |id: &str, name: &str, state: PodSandboxState| PodSandbox {
            id: id.repeat(64),
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                namespace: "default".into(),
                ..Default::default()
            }),
            state: state as i32,
            ..Default::default()
        };
        let container = Container {
            id: "c".repeat(64),
            pod_sandbox_id: "a".repeat(64),
            metadata: Some(ContainerMetadata {
                name: "main".into(),
                attempt: 0,
            }),
            image: Some(ImageSpec {
                image: "busybox".into(),
                ..Default::default()
            }),
            state: ContainerState::ContainerRunning as i32,
            ..Default::default()
        };
        let pods = [
            pod("a", "one", PodSandboxState::SandboxReady),
            pod("b", "two", PodSandboxState::SandboxNotready),
        ];
        assert_eq!(
            lines(&pods, &[container]),
            [
                "aaaaaaaaaaaa  ready     default/one",
                "  cccccccccccc  running   main  busybox",
                "bbbbbbbbbbbb  stopped   default/two",
            ]
        );
    }
}
