//! ImageFsInfo: the disk space that images use.

use skiff_cri::v1::{
    FilesystemIdentifier, FilesystemUsage, ImageFsInfoRequest, ImageFsInfoResponse, UInt64Value,
};
use skiff_image::Store;

use super::RpcError;
use crate::clock;

/// Answers from running totals. Containers' writable layers are on the same file system, which a
/// kubelet learns from the same entry standing for both.
pub async fn handle(store: &Store, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse, RpcError> {
    let usage = store.usage();
    let mountpoint = store.dir().to_string_lossy().into_owned();
    let images = FilesystemUsage {
        timestamp: clock::now(),
        fs_id: Some(FilesystemIdentifier { mountpoint }),
        used_bytes: Some(UInt64Value { value: usage.bytes }),
        inodes_used: Some(UInt64Value {
            value: usage.inodes,
        }),
    };
    Ok(ImageFsInfoResponse {
        image_filesystems: vec![images.clone()],
        container_filesystems: vec![images],
    })
}
