//! ImageService: which handler answers which call.

use std::sync::Arc;

use skiff_cri::v1 as cri;
use skiff_cri::v1::image_service_server::ImageService;
use skiff_image::Store;
use skiff_signature::Policies;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::call::{Call, Kind, Stream};
use super::deadline::patience;
use super::subject::{Subject, image, nothing};
use crate::rpc;
use crate::telemetry::Telemetry;

/// The service.
#[derive(Clone)]
pub struct Images {
    store: Arc<Store>,
    signatures: Arc<Policies>,
    telemetry: Arc<Telemetry>,
}

/// The calls that are built.
pub(super) const METHODS: &[&str] = &[
    "ListImages",
    "StreamImages",
    "ImageStatus",
    "PullImage",
    "RemoveImage",
    "ImageFsInfo",
];

impl Images {
    /// The service of a store, for images that some policies allow.
    pub fn new(store: Arc<Store>, signatures: Arc<Policies>, telemetry: Arc<Telemetry>) -> Self {
        Self {
            store,
            signatures,
            telemetry,
        }
    }

    fn call(
        &self,
        method: &'static str,
        kind: Kind,
        metadata: &MetadataMap,
        subject: Subject,
    ) -> Call<'_> {
        Call::new(&self.telemetry, method, kind, metadata, subject)
    }
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn list_images(
        &self,
        request: Request<cri::ListImagesRequest>,
    ) -> Result<Response<cri::ListImagesResponse>, Status> {
        let subject = nothing(request.get_ref());
        let call = self.call("ListImages", Kind::Read, request.metadata(), subject);
        let request = request.into_inner();
        call.answer(rpc::list_images::handle(&self.store, request))
            .await
    }

    type StreamImagesStream = Stream<cri::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<cri::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let subject = nothing(request.get_ref());
        let call = self.call("StreamImages", Kind::Read, request.metadata(), subject);
        let request = request.into_inner();
        call.answer_stream(rpc::stream_images::handle(&self.store, request))
            .await
    }

    async fn image_status(
        &self,
        request: Request<cri::ImageStatusRequest>,
    ) -> Result<Response<cri::ImageStatusResponse>, Status> {
        let subject = image(request.get_ref().image.as_ref());
        let call = self.call("ImageStatus", Kind::Read, request.metadata(), subject);
        let request = request.into_inner();
        call.answer(rpc::image_status::handle(&self.store, request))
            .await
    }

    async fn pull_image(
        &self,
        request: Request<cri::PullImageRequest>,
    ) -> Result<Response<cri::PullImageResponse>, Status> {
        let subject = image(request.get_ref().image.as_ref());
        let call = self.call("PullImage", Kind::Change, request.metadata(), subject);
        let request = request.into_inner();
        let handler =
            rpc::pull_image::handle(&self.store, &self.signatures, &self.telemetry, request);
        call.answer(handler).await
    }

    async fn remove_image(
        &self,
        request: Request<cri::RemoveImageRequest>,
    ) -> Result<Response<cri::RemoveImageResponse>, Status> {
        let subject = image(request.get_ref().image.as_ref());
        let call = self.call("RemoveImage", Kind::Change, request.metadata(), subject);
        let patience = patience(request.metadata());
        let request = request.into_inner();
        call.answer(rpc::remove_image::handle(&self.store, patience, request))
            .await
    }

    async fn image_fs_info(
        &self,
        request: Request<cri::ImageFsInfoRequest>,
    ) -> Result<Response<cri::ImageFsInfoResponse>, Status> {
        let subject = nothing(request.get_ref());
        let call = self.call("ImageFsInfo", Kind::Read, request.metadata(), subject);
        let request = request.into_inner();
        call.answer(rpc::image_fs_info::handle(&self.store, request))
            .await
    }
}
