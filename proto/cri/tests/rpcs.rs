//! The services declare the calls of CRI v1, all of them and no other.

mod descriptor;

use std::collections::BTreeSet;
use std::path::Path;

const UNARY: [&str; 36] = [
    "ImageService.ImageFsInfo",
    "ImageService.ImageStatus",
    "ImageService.ListImages",
    "ImageService.PullImage",
    "ImageService.RemoveImage",
    "RuntimeService.Attach",
    "RuntimeService.CheckpointContainer",
    "RuntimeService.CheckpointPod",
    "RuntimeService.ContainerStats",
    "RuntimeService.ContainerStatus",
    "RuntimeService.CreateContainer",
    "RuntimeService.Exec",
    "RuntimeService.ExecSync",
    "RuntimeService.ListContainerStats",
    "RuntimeService.ListContainers",
    "RuntimeService.ListMetricDescriptors",
    "RuntimeService.ListPodSandbox",
    "RuntimeService.ListPodSandboxMetrics",
    "RuntimeService.ListPodSandboxStats",
    "RuntimeService.PodSandboxStats",
    "RuntimeService.PodSandboxStatus",
    "RuntimeService.PortForward",
    "RuntimeService.RemoveContainer",
    "RuntimeService.RemovePodSandbox",
    "RuntimeService.ReopenContainerLog",
    "RuntimeService.RestorePod",
    "RuntimeService.RunPodSandbox",
    "RuntimeService.RuntimeConfig",
    "RuntimeService.StartContainer",
    "RuntimeService.Status",
    "RuntimeService.StopContainer",
    "RuntimeService.StopPodSandbox",
    "RuntimeService.UpdateContainerResources",
    "RuntimeService.UpdatePodSandboxResources",
    "RuntimeService.UpdateRuntimeConfig",
    "RuntimeService.Version",
];

const SERVER_STREAMING: [&str; 7] = [
    "ImageService.StreamImages",
    "RuntimeService.GetContainerEvents",
    "RuntimeService.StreamContainerStats",
    "RuntimeService.StreamContainers",
    "RuntimeService.StreamPodSandboxMetrics",
    "RuntimeService.StreamPodSandboxStats",
    "RuntimeService.StreamPodSandboxes",
];

#[test]
fn every_call_of_cri_v1_is_declared() {
    let facts = descriptor::facts_of(Path::new(env!("CARGO_MANIFEST_DIR")), "api.proto");
    let (mut unary, mut streaming) = (BTreeSet::new(), BTreeSet::new());
    for (what, how) in &facts {
        let Some(name) = what.strip_prefix("rpc ") else {
            continue;
        };
        assert!(
            !how.starts_with("(stream "),
            "{name} takes a stream; no call of CRI v1 does"
        );
        if how.contains("-> stream ") {
            &mut streaming
        } else {
            &mut unary
        }
        .insert(name);
    }
    assert_eq!(unary, BTreeSet::from(UNARY));
    assert_eq!(streaming, BTreeSet::from(SERVER_STREAMING));
    assert_eq!(unary.len() + streaming.len(), 43);
}
