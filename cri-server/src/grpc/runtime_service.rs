//! RuntimeService: which handler answers which call.

use std::sync::Arc;

use skiff_cri::v1 as cri;
use skiff_cri::v1::runtime_service_server::RuntimeService;
use tonic::{Request, Response, Status};

use super::edge::{Kind, Stream, answer, answer_stream, unimplemented};
use crate::daemon::Daemon;
use crate::rpc;

/// The service.
#[derive(Clone)]
pub struct Runtime {
    daemon: Arc<Daemon>,
}

impl Runtime {
    /// The service of a daemon.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon }
    }
}

/// Writes the methods: for each its Rust and wire names, its messages, what a request is about
/// (for the log), and its handler. `unbuilt` ones answer that they are.
macro_rules! service {
    (
        unary { $($name:ident $wire:literal $kind:ident
            ($request:ident) -> $response:ident, $about:expr, $handler:expr;)* }
        streams { $($sname:ident $swire:literal $stype:ident
            ($srequest:ident) -> $sresponse:ident, $sabout:expr, $shandler:expr;)* }
        unbuilt { $($uname:ident $uwire:literal ($urequest:ident) -> $uresponse:ident;)* }
        unbuilt_streams { $($vname:ident $vwire:literal $vtype:ident
            ($vrequest:ident) -> $vresponse:ident;)* }
    ) => {
        #[tonic::async_trait]
        impl RuntimeService for Runtime {
            $(async fn $name(
                &self,
                request: Request<cri::$request>,
            ) -> Result<Response<cri::$response>, Status> {
                let request = request.into_inner();
                let about: fn(&cri::$request) -> String = $about;
                let about = about(&request);
                answer($wire, Kind::$kind, about, ($handler)(&self.daemon, request)).await
            })*

            $(type $stype = Stream<cri::$sresponse>;

            async fn $sname(
                &self,
                request: Request<cri::$srequest>,
            ) -> Result<Response<Self::$stype>, Status> {
                let request = request.into_inner();
                let about: fn(&cri::$srequest) -> String = $sabout;
                let about = about(&request);
                answer_stream($swire, about, ($shandler)(&self.daemon, request)).await
            })*

            $(async fn $uname(
                &self,
                _: Request<cri::$urequest>,
            ) -> Result<Response<cri::$uresponse>, Status> {
                Err(unimplemented($uwire))
            })*

            $(type $vtype = Stream<cri::$vresponse>;

            async fn $vname(
                &self,
                _: Request<cri::$vrequest>,
            ) -> Result<Response<Self::$vtype>, Status> {
                Err(unimplemented($vwire))
            })*
        }
    };
}

service! {
    unary {
        version "Version" Read (VersionRequest) -> VersionResponse,
            |_| String::new(), |_, r| rpc::version::handle(r);
        status "Status" Read (StatusRequest) -> StatusResponse,
            |_| String::new(), rpc::status::handle;
        runtime_config "RuntimeConfig" Read (RuntimeConfigRequest) -> RuntimeConfigResponse,
            |_| String::new(), rpc::runtime_config::handle;
        update_runtime_config "UpdateRuntimeConfig" Change
            (UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse,
            |_| String::new(), |_, r| rpc::update_runtime_config::handle(r);
        run_pod_sandbox "RunPodSandbox" Change (RunPodSandboxRequest) -> RunPodSandboxResponse,
            |r| pod_name(r.config.as_ref()), rpc::run_pod_sandbox::handle;
        stop_pod_sandbox "StopPodSandbox" Change
            (StopPodSandboxRequest) -> StopPodSandboxResponse,
            |r| pod(&r.pod_sandbox_id), rpc::stop_pod_sandbox::handle;
        remove_pod_sandbox "RemovePodSandbox" Change
            (RemovePodSandboxRequest) -> RemovePodSandboxResponse,
            |r| pod(&r.pod_sandbox_id), rpc::remove_pod_sandbox::handle;
        pod_sandbox_status "PodSandboxStatus" Read
            (PodSandboxStatusRequest) -> PodSandboxStatusResponse,
            |r| pod(&r.pod_sandbox_id), rpc::pod_sandbox_status::handle;
        list_pod_sandbox "ListPodSandbox" Read
            (ListPodSandboxRequest) -> ListPodSandboxResponse,
            |_| String::new(), rpc::list_pod_sandbox::handle;
        create_container "CreateContainer" Change
            (CreateContainerRequest) -> CreateContainerResponse,
            new_container, rpc::create_container::handle;
        start_container "StartContainer" Change
            (StartContainerRequest) -> StartContainerResponse,
            |r| container(&r.container_id), rpc::start_container::handle;
        stop_container "StopContainer" Change (StopContainerRequest) -> StopContainerResponse,
            |r| container(&r.container_id), rpc::stop_container::handle;
        remove_container "RemoveContainer" Change
            (RemoveContainerRequest) -> RemoveContainerResponse,
            |r| container(&r.container_id), rpc::remove_container::handle;
        update_container_resources "UpdateContainerResources" Change
            (UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse,
            |r| container(&r.container_id), rpc::update_container_resources::handle;
        update_pod_sandbox_resources "UpdatePodSandboxResources" Change
            (UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse,
            |r| pod(&r.pod_sandbox_id), rpc::update_pod_sandbox_resources::handle;
        container_status "ContainerStatus" Read
            (ContainerStatusRequest) -> ContainerStatusResponse,
            |r| container(&r.container_id), rpc::container_status::handle;
        list_containers "ListContainers" Read
            (ListContainersRequest) -> ListContainersResponse,
            |_| String::new(), rpc::list_containers::handle;
        exec_sync "ExecSync" Read (ExecSyncRequest) -> ExecSyncResponse,
            |r| container(&r.container_id), rpc::exec_sync::handle;
        exec "Exec" Change (ExecRequest) -> ExecResponse,
            |r| container(&r.container_id), rpc::exec::handle;
        attach "Attach" Change (AttachRequest) -> AttachResponse,
            |r| container(&r.container_id), rpc::attach::handle;
        port_forward "PortForward" Change (PortForwardRequest) -> PortForwardResponse,
            |r| pod(&r.pod_sandbox_id), rpc::port_forward::handle;
        reopen_container_log "ReopenContainerLog" Change
            (ReopenContainerLogRequest) -> ReopenContainerLogResponse,
            |r| container(&r.container_id), rpc::reopen_container_log::handle;
    }
    streams {
        stream_pod_sandboxes "StreamPodSandboxes" StreamPodSandboxesStream
            (StreamPodSandboxesRequest) -> StreamPodSandboxesResponse,
            |_| String::new(), rpc::stream_pod_sandboxes::handle;
        stream_containers "StreamContainers" StreamContainersStream
            (StreamContainersRequest) -> StreamContainersResponse,
            |_| String::new(), rpc::stream_containers::handle;
    }
    unbuilt {
        container_stats "ContainerStats" (ContainerStatsRequest) -> ContainerStatsResponse;
        list_container_stats "ListContainerStats"
            (ListContainerStatsRequest) -> ListContainerStatsResponse;
        pod_sandbox_stats "PodSandboxStats"
            (PodSandboxStatsRequest) -> PodSandboxStatsResponse;
        list_pod_sandbox_stats "ListPodSandboxStats"
            (ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
        checkpoint_container "CheckpointContainer"
            (CheckpointContainerRequest) -> CheckpointContainerResponse;
        checkpoint_pod "CheckpointPod" (CheckpointPodRequest) -> CheckpointPodResponse;
        restore_pod "RestorePod" (RestorePodRequest) -> RestorePodResponse;
        list_metric_descriptors "ListMetricDescriptors"
            (ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
        list_pod_sandbox_metrics "ListPodSandboxMetrics"
            (ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
    }
    unbuilt_streams {
        stream_container_stats "StreamContainerStats" StreamContainerStatsStream
            (StreamContainerStatsRequest) -> StreamContainerStatsResponse;
        stream_pod_sandbox_stats "StreamPodSandboxStats" StreamPodSandboxStatsStream
            (StreamPodSandboxStatsRequest) -> StreamPodSandboxStatsResponse;
        get_container_events "GetContainerEvents" GetContainerEventsStream
            (GetEventsRequest) -> ContainerEventResponse;
        stream_pod_sandbox_metrics "StreamPodSandboxMetrics" StreamPodSandboxMetricsStream
            (StreamPodSandboxMetricsRequest) -> StreamPodSandboxMetricsResponse;
    }
}

fn pod(id: &str) -> String {
    format!("pod {id}")
}

fn container(id: &str) -> String {
    format!("container {id}")
}

fn pod_name(config: Option<&cri::PodSandboxConfig>) -> String {
    match config.and_then(|config| config.metadata.as_ref()) {
        Some(metadata) => {
            let cri::PodSandboxMetadata {
                name,
                uid,
                namespace,
                attempt,
            } = metadata;
            format!("pod {namespace}/{name} uid {uid} attempt {attempt}")
        }
        None => "pod without metadata".into(),
    }
}

fn new_container(request: &cri::CreateContainerRequest) -> String {
    let config = request.config.as_ref();
    let metadata = config
        .and_then(|config| config.metadata.clone())
        .unwrap_or_default();
    let cri::ContainerMetadata { name, attempt } = metadata;
    format!(
        "pod {} container {name} attempt {attempt}",
        request.pod_sandbox_id
    )
}
