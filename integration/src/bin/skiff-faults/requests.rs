//! Requests no kubelet should send, and some it does.

use anyhow::{Context, ensure};
use skiff_cri::v1::{
    ListPodSandboxRequest, PodSandboxFilter, PodSandboxStatusRequest, RunPodSandboxRequest,
};
use skiff_integration::client;
use tonic::Code;

use crate::node::{Node, refused, refused_with};

/// NotFound where the kubelet asks about it, success where it wants it gone.
pub(crate) async fn unknown_pods_and_containers(node: &mut Node) -> anyhow::Result<()> {
    let id = "0123456789abcdef".repeat(4);
    let cri = &mut node.cri;
    cri.stop_pod(&id).await.context("StopPodSandbox")?;
    cri.remove_pod(&id).await.context("RemovePodSandbox")?;
    cri.stop(&id, 0).await.context("StopContainer")?;
    cri.remove(&id).await.context("RemoveContainer")?;
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: id.clone(),
        verbose: false,
    };
    refused_with(
        "PodSandboxStatus",
        cri.runtime.pod_sandbox_status(request).await,
        Code::NotFound,
        &[&id],
    )?;
    refused_with(
        "ContainerStatus",
        cri.status(&id).await,
        Code::NotFound,
        &[&id],
    )?;
    refused_with(
        "StartContainer",
        cri.start(&id).await,
        Code::NotFound,
        &[&id],
    )?;
    refused_with(
        "ExecSync",
        cri.exec(&id, &["true"], 1).await,
        Code::NotFound,
        &[&id],
    )?;
    let pod = client::pod("unknown");
    let container = client::container("main", &["true"], &pod);
    refused_with(
        "CreateContainer",
        cri.create(&id, &container, &pod).await,
        Code::NotFound,
        &[&id],
    )
}

pub(crate) async fn missing_metadata(node: &mut Node) -> anyhow::Result<()> {
    let answer = node
        .cri
        .runtime
        .run_pod_sandbox(RunPodSandboxRequest::default())
        .await;
    refused_with(
        "RunPodSandbox without a config",
        answer,
        Code::InvalidArgument,
        &["config"],
    )?;
    let mut pod = client::pod("no-metadata");
    pod.metadata = None;
    refused_with(
        "RunPodSandbox without metadata",
        node.cri.run_pod(&pod).await,
        Code::InvalidArgument,
        &["metadata"],
    )?;
    let mut pod = client::pod("no-name");
    pod.metadata.get_or_insert_default().name.clear();
    refused_with(
        "RunPodSandbox without a name",
        node.cri.run_pod(&pod).await,
        Code::InvalidArgument,
        &["name"],
    )?;

    let running = node.launch("metadata", "sleep 3600").await?;
    let mut container = client::container("second", &["true"], &running.pod);
    container.metadata = None;
    let answer = node
        .cri
        .create(&running.pod_id, &container, &running.pod)
        .await;
    refused_with(
        "CreateContainer without metadata",
        answer,
        Code::InvalidArgument,
        &["metadata"],
    )?;
    node.cri
        .discard_pod(&running.pod_id)
        .await
        .context("remove the pod")
}

/// crictl passes on what it is given: a prefix of one id is that id, one of two is refused, and
/// neither is removed.
pub(crate) async fn an_id_prefix(node: &mut Node) -> anyhow::Result<()> {
    let running = node.launch("prefix", "sleep 3600").await?;
    let status = node
        .cri
        .status(&running.id[..12])
        .await
        .context("ContainerStatus by prefix")?;
    ensure!(
        status.id == running.id,
        "ContainerStatus by prefix answers for {}",
        status.id
    );
    // sixteen digits: among seventeen pods, two begin alike
    let mut pods = vec![running.pod_id.clone()];
    let shared = loop {
        let name = format!("prefix-{}", pods.len());
        let id = node
            .cri
            .run_pod(&client::on_host_network(client::pod(&name)))
            .await
            .context("RunPodSandbox")?;
        let twin = pods.iter().any(|other| other[..1] == id[..1]);
        pods.push(id.clone());
        if twin {
            break id[..1].to_owned();
        }
    };
    refused(
        "PodSandboxStatus by an ambiguous prefix",
        node.pod_state(&shared).await,
    )?;
    refused(
        "RemovePodSandbox by an ambiguous prefix",
        node.cri.remove_pod(&shared).await,
    )?;
    refused("RemovePodSandbox of no id", node.cri.remove_pod("").await)?;
    for id in &pods {
        node.pod_state(id)
            .await
            .with_context(|| format!("pod {id} is gone"))?;
        node.cri.discard_pod(id).await.context("remove the pod")?;
    }
    Ok(())
}

/// Taken or refused, but never half: and the daemon goes on.
pub(crate) async fn a_label_map_of_ten_megabytes(node: &mut Node) -> anyhow::Result<()> {
    let mut pod = client::pod("labels");
    pod.labels = (0..10_000)
        .map(|i| (format!("label-{i}"), "x".repeat(1000)))
        .collect();
    match node.cri.run_pod(&pod).await {
        Ok(id) => {
            let filter = PodSandboxFilter {
                id: id.clone(),
                ..Default::default()
            };
            let request = ListPodSandboxRequest {
                filter: Some(filter),
            };
            let list = node
                .cri
                .runtime
                .list_pod_sandbox(request)
                .await
                .context("ListPodSandbox")?
                .into_inner();
            ensure!(
                list.items()?
                    .first()
                    .is_some_and(|item| item.labels == pod.labels),
                "the labels came back changed"
            );
            node.cri.discard_pod(&id).await.context("remove the pod")?;
        }
        Err(status) => ensure!(
            matches!(
                status.code(),
                Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted
            ),
            "RunPodSandbox: {status}"
        ),
    }
    node.healthy("after-labels").await
}

pub(crate) async fn unknown_handler(node: &mut Node) -> anyhow::Result<()> {
    let request = RunPodSandboxRequest {
        config: Some(client::pod("handler")),
        runtime_handler: "no-such-handler".to_owned(),
    };
    let status = refused(
        "RunPodSandbox",
        node.cri.runtime.run_pod_sandbox(request).await,
    )?;
    crate::node::says("RunPodSandbox", status.message(), &["no-such-handler"])
}
