//! RuntimeService: which handler answers which call.

use std::sync::Arc;

use skiff_cri::v1 as cri;
use skiff_cri::v1::runtime_service_server::RuntimeService;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::call::{Call, Kind, Stream, unimplemented};
use super::subject::{Subject, container, new_container, new_pod, nothing, pod};
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

    fn call(
        &self,
        method: &'static str,
        kind: Kind,
        metadata: &MetadataMap,
        subject: Subject,
    ) -> Call<'_> {
        Call::new(&self.daemon.telemetry, method, kind, metadata, subject)
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
        live { $($lname:ident $lwire:literal $ltype:ident
            ($lrequest:ident) -> $lresponse:ident, $labout:expr, $lhandler:expr;)* }
        unbuilt { $($uname:ident $uwire:literal ($urequest:ident) -> $uresponse:ident;)* }
    ) => {
        /// The calls that are built.
        pub(super) const METHODS: &[&str] = &[$($wire,)* $($swire,)* $($lwire,)*];

        #[tonic::async_trait]
        impl RuntimeService for Runtime {
            $(async fn $name(
                &self,
                request: Request<cri::$request>,
            ) -> Result<Response<cri::$response>, Status> {
                let about: fn(&cri::$request) -> Subject = $about;
                let subject = about(request.get_ref());
                let call = self.call($wire, Kind::$kind, request.metadata(), subject);
                call.answer(($handler)(&self.daemon, request.into_inner())).await
            })*

            $(type $stype = Stream<cri::$sresponse>;

            async fn $sname(
                &self,
                request: Request<cri::$srequest>,
            ) -> Result<Response<Self::$stype>, Status> {
                let about: fn(&cri::$srequest) -> Subject = $sabout;
                let subject = about(request.get_ref());
                let call = self.call($swire, Kind::Read, request.metadata(), subject);
                call.answer_stream(($shandler)(&self.daemon, request.into_inner())).await
            })*

            $(type $ltype = Stream<cri::$lresponse>;

            async fn $lname(
                &self,
                request: Request<cri::$lrequest>,
            ) -> Result<Response<Self::$ltype>, Status> {
                let about: fn(&cri::$lrequest) -> Subject = $labout;
                let subject = about(request.get_ref());
                let call = self.call($lwire, Kind::Read, request.metadata(), subject);
                let handler = ($lhandler)(&self.daemon, request.into_inner());
                call.answer_live(handler).await
            })*

            $(async fn $uname(
                &self,
                _: Request<cri::$urequest>,
            ) -> Result<Response<cri::$uresponse>, Status> {
                Err(unimplemented($uwire))
            })*
        }
    };
}

service! {
    unary {
        version "Version" Read (VersionRequest) -> VersionResponse,
            nothing, |_, r| rpc::version::handle(r);
        status "Status" Read (StatusRequest) -> StatusResponse,
            nothing, rpc::status::handle;
        runtime_config "RuntimeConfig" Read (RuntimeConfigRequest) -> RuntimeConfigResponse,
            nothing, rpc::runtime_config::handle;
        update_runtime_config "UpdateRuntimeConfig" Change
            (UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse,
            nothing, |_, r| rpc::update_runtime_config::handle(r);
        run_pod_sandbox "RunPodSandbox" Change (RunPodSandboxRequest) -> RunPodSandboxResponse,
            new_pod, rpc::run_pod_sandbox::handle;
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
            nothing, rpc::list_pod_sandbox::handle;
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
            nothing, rpc::list_containers::handle;
        container_stats "ContainerStats" Read
            (ContainerStatsRequest) -> ContainerStatsResponse,
            |r| container(&r.container_id), rpc::container_stats::handle;
        list_container_stats "ListContainerStats" Read
            (ListContainerStatsRequest) -> ListContainerStatsResponse,
            nothing, rpc::list_container_stats::handle;
        pod_sandbox_stats "PodSandboxStats" Read
            (PodSandboxStatsRequest) -> PodSandboxStatsResponse,
            |r| pod(&r.pod_sandbox_id), rpc::pod_sandbox_stats::handle;
        list_pod_sandbox_stats "ListPodSandboxStats" Read
            (ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse,
            nothing, rpc::list_pod_sandbox_stats::handle;
        list_metric_descriptors "ListMetricDescriptors" Read
            (ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse,
            nothing, |_, r| rpc::list_metric_descriptors::handle(r);
        list_pod_sandbox_metrics "ListPodSandboxMetrics" Read
            (ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse,
            nothing, rpc::list_pod_sandbox_metrics::handle;
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
            nothing, rpc::stream_pod_sandboxes::handle;
        stream_containers "StreamContainers" StreamContainersStream
            (StreamContainersRequest) -> StreamContainersResponse,
            nothing, rpc::stream_containers::handle;
        stream_container_stats "StreamContainerStats" StreamContainerStatsStream
            (StreamContainerStatsRequest) -> StreamContainerStatsResponse,
            nothing, rpc::stream_container_stats::handle;
        stream_pod_sandbox_stats "StreamPodSandboxStats" StreamPodSandboxStatsStream
            (StreamPodSandboxStatsRequest) -> StreamPodSandboxStatsResponse,
            nothing, rpc::stream_pod_sandbox_stats::handle;
        stream_pod_sandbox_metrics "StreamPodSandboxMetrics" StreamPodSandboxMetricsStream
            (StreamPodSandboxMetricsRequest) -> StreamPodSandboxMetricsResponse,
            nothing, rpc::stream_pod_sandbox_metrics::handle;
    }
    live {
        get_container_events "GetContainerEvents" GetContainerEventsStream
            (GetEventsRequest) -> ContainerEventResponse,
            nothing, rpc::get_container_events::handle;
    }
    unbuilt {
        checkpoint_container "CheckpointContainer"
            (CheckpointContainerRequest) -> CheckpointContainerResponse;
        checkpoint_pod "CheckpointPod" (CheckpointPodRequest) -> CheckpointPodResponse;
        restore_pod "RestorePod" (RestorePodRequest) -> RestorePodResponse;
    }
}
