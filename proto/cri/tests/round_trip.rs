//! The generated client and server understand each other, without a socket between them.

use skiff_cri::v1::image_service_client::ImageServiceClient;
use skiff_cri::v1::image_service_server::{ImageService, ImageServiceServer};
use skiff_cri::v1::*;
use tonic::codegen::{BoxStream, tokio_stream};
use tonic::{Code, Request, Response, Status};

/// Holds as many images as it is told, and knows how to list and to stream them.
struct Shelf {
    images: Vec<Image>,
}

#[tonic::async_trait]
impl ImageService for Shelf {
    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let wanted = request.into_inner().filter.and_then(|filter| filter.image);
        let matches = |image: &&Image| wanted.as_ref().is_none_or(|spec| spec.image == image.id);
        let images = self.images.iter().filter(matches).cloned().collect();
        Ok(Response::new(ListImagesResponse { images }))
    }

    type StreamImagesStream = BoxStream<StreamImagesResponse>;

    async fn stream_images(
        &self,
        _: Request<StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let items: Vec<_> = self
            .images
            .iter()
            .map(|image| {
                Ok(StreamImagesResponse {
                    images: vec![image.clone()],
                })
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(items))))
    }

    async fn image_status(
        &self,
        _: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        Err(Status::unimplemented("ImageStatus"))
    }

    async fn pull_image(
        &self,
        _: Request<PullImageRequest>,
    ) -> Result<Response<PullImageResponse>, Status> {
        Err(Status::unimplemented("PullImage"))
    }

    async fn remove_image(
        &self,
        _: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        Err(Status::unimplemented("RemoveImage"))
    }

    async fn image_fs_info(
        &self,
        _: Request<ImageFsInfoRequest>,
    ) -> Result<Response<ImageFsInfoResponse>, Status> {
        Err(Status::unimplemented("ImageFsInfo"))
    }
}

fn client() -> ImageServiceClient<ImageServiceServer<Shelf>> {
    let image = |id: &str| Image {
        id: id.into(),
        size: 7,
        ..Default::default()
    };
    ImageServiceClient::new(ImageServiceServer::new(Shelf {
        images: vec![image("a"), image("b")],
    }))
}

#[tokio::test]
async fn a_unary_call_carries_request_and_answer() {
    let spec = ImageSpec {
        image: "b".into(),
        ..Default::default()
    };
    let filter = Some(ImageFilter { image: Some(spec) });
    let answer = client()
        .list_images(ListImagesRequest { filter })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.images.len(), 1);
    assert_eq!(
        (answer.images[0].id.as_str(), answer.images[0].size),
        ("b", 7)
    );
}

#[tokio::test]
async fn a_stream_carries_every_item_and_ends() {
    let answer = client()
        .stream_images(StreamImagesRequest::default())
        .await
        .unwrap();
    let mut stream = answer.into_inner();
    let mut ids = Vec::new();
    while let Some(item) = stream.message().await.unwrap() {
        ids.extend(item.images.into_iter().map(|image| image.id));
    }
    assert_eq!(ids, ["a", "b"]);
}

#[tokio::test]
async fn an_error_keeps_its_code_and_message() {
    let status = client()
        .pull_image(PullImageRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unimplemented, "PullImage")
    );
}
