//! ImageService: which handler answers which call.

use std::sync::Arc;

use skiff_cri::v1 as cri;
use skiff_cri::v1::image_service_server::ImageService;
use skiff_image::Store;
use tonic::{Request, Response, Status};

use super::edge::{Kind, Stream, answer, answer_stream};
use crate::rpc;

/// The service.
#[derive(Clone)]
pub struct Images {
    store: Arc<Store>,
}

impl Images {
    /// The service of a store.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn list_images(
        &self,
        request: Request<cri::ListImagesRequest>,
    ) -> Result<Response<cri::ListImagesResponse>, Status> {
        let handler = rpc::list_images::handle(&self.store, request.into_inner());
        answer("ListImages", Kind::Read, String::new(), handler).await
    }

    type StreamImagesStream = Stream<cri::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<cri::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let handler = rpc::stream_images::handle(&self.store, request.into_inner());
        answer_stream("StreamImages", String::new(), handler).await
    }

    async fn image_status(
        &self,
        request: Request<cri::ImageStatusRequest>,
    ) -> Result<Response<cri::ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let about = image(request.image.as_ref());
        let handler = rpc::image_status::handle(&self.store, request);
        answer("ImageStatus", Kind::Read, about, handler).await
    }

    async fn pull_image(
        &self,
        request: Request<cri::PullImageRequest>,
    ) -> Result<Response<cri::PullImageResponse>, Status> {
        let request = request.into_inner();
        let about = image(request.image.as_ref());
        let handler = rpc::pull_image::handle(&self.store, request);
        answer("PullImage", Kind::Change, about, handler).await
    }

    async fn remove_image(
        &self,
        request: Request<cri::RemoveImageRequest>,
    ) -> Result<Response<cri::RemoveImageResponse>, Status> {
        let request = request.into_inner();
        let about = image(request.image.as_ref());
        let handler = rpc::remove_image::handle(&self.store, request);
        answer("RemoveImage", Kind::Change, about, handler).await
    }

    async fn image_fs_info(
        &self,
        request: Request<cri::ImageFsInfoRequest>,
    ) -> Result<Response<cri::ImageFsInfoResponse>, Status> {
        let handler = rpc::image_fs_info::handle(&self.store, request.into_inner());
        answer("ImageFsInfo", Kind::Read, String::new(), handler).await
    }
}

fn image(spec: Option<&cri::ImageSpec>) -> String {
    spec.map_or_else(String::new, |spec| format!("image {}", spec.image))
}
