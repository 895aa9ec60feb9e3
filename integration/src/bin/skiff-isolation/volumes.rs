//! Volumes that cannot be had as asked, and images that are in use as volumes.

use std::fs;

use anyhow::{Context, ensure};
use skiff_cri::v1::{ImageStatusRequest, MountPropagation, RemoveImageRequest};
use skiff_integration::client::image_spec;
use skiff_integration::mount;

use crate::lab::{Lab, Shape, same};

const VOLUME: &str = "registry.k8s.io/e2e-test-images/nginx:1.14-2";

/// The status names the image by its id; removed while it is in use it stays for the container,
/// and afterwards it is not there for another one.
pub(crate) async fn an_image_in_use(lab: &mut Lab) -> anyhow::Result<()> {
    let id = lab.cri.pull(VOLUME).await.context("pull")?;
    let shaped = |name: &str| {
        let mut shape = Shape::new(name);
        let mount = shape.mount("", "/image");
        (mount.image, mount.readonly) = (Some(image_spec(VOLUME)), true);
        shape
    };
    lab.look(shaped("image-in-use"), async |inside| {
        let status = inside.lab.cri.status(&inside.id).await?;
        let mount = status.mounts.iter().find(|m| m.container_path == "/image");
        let image = mount.and_then(|mount| mount.image.as_ref());
        same(
            "image_ref",
            image.map(|image| &*image.image_ref),
            Some(&*id),
        )?;
        let request = RemoveImageRequest {
            image: Some(image_spec(VOLUME)),
        };
        inside.lab.cri.image.remove_image(request).await?;
        inside
            .outcomes(&[("read=/image/etc/nginx/nginx.conf", "ok")])
            .await
    })
    .await?;
    let request = ImageStatusRequest {
        image: Some(image_spec(VOLUME)),
        verbose: false,
    };
    let gone = lab.cri.image.image_status(request).await?.into_inner();
    ensure!(gone.image.is_none(), "the image is still there");
    let words = ["ImageVolumeMountFailed", "/image", VOLUME];
    let refused = lab.refuses(shaped("image-gone"), &words).await;
    lab.cri.pull(VOLUME).await.context("pull again")?;
    refused?;
    let mut shape = shaped("image-writable");
    shape.container.mounts[0].readonly = false;
    lab.refuses(shape, &["readonly"]).await
}

/// CVE-2019-16884: no volume takes the place of /proc.
pub(crate) async fn over_proc(lab: &mut Lab) -> anyhow::Result<()> {
    let volume = "/var/isolation-proc";
    fs::create_dir_all(volume)?;
    for path in ["/proc", "/proc/self", "/proc/sys/kernel"] {
        let mut shape = Shape::new("over-proc");
        shape.mount(volume, path);
        lab.refuses(shape, &["/proc"])
            .await
            .with_context(|| path.to_owned())?;
    }
    Ok(())
}

/// What could not reach anybody is refused rather than silently private.
pub(crate) async fn propagation_of_a_private_mount(lab: &mut Lab) -> anyhow::Result<()> {
    let volume = "/var/isolation-unshared";
    fs::create_dir_all(volume)?;
    mount::tmpfs(volume, "64k")?;
    let outcome = async {
        mount::private(volume)?;
        for kind in [
            MountPropagation::PropagationBidirectional,
            MountPropagation::PropagationHostToContainer,
        ] {
            let mut shape = Shape::new("unshared");
            shape.mount(volume, "/volume").propagation = kind.into();
            lab.refuses(shape, &["mounts[", "propagation", volume, "shared"])
                .await?;
        }
        Ok(())
    }
    .await;
    mount::unmount(volume)?;
    outcome
}
