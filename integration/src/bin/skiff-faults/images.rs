//! References, registries and disks that fail a pull.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use skiff_cri::v1::{ImageStatusRequest, PullImageRequest};
use skiff_integration::client::{self, Cri};
use skiff_integration::daemon::Daemon;
use skiff_integration::mount;
use skiff_integration::registry::Registry;
use tonic::{Code, Status};

use crate::node::{Node, refused, refused_with, says};

/// The lab's configuration aborts a pull that receives nothing for 3 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry that the daemon speaks plain HTTP to.
fn registry(size: usize) -> anyhow::Result<Registry> {
    trusted(Registry::serve(size)?)
}

/// The same, with a layer that is small until it is unpacked.
fn inflating(size: usize) -> anyhow::Result<Registry> {
    trusted(Registry::serve_inflating(size)?)
}

fn trusted(registry: Registry) -> anyhow::Result<Registry> {
    let host = registry.host();
    let dir = format!("/etc/skiff/certs.d/{host}");
    std::fs::create_dir_all(&dir)?;
    let text = format!("server = \"http://{host}\"\n");
    std::fs::write(format!("{dir}/hosts.toml"), text)
        .with_context(|| format!("write {dir}/hosts.toml"))?;
    Ok(registry)
}

/// PullImage has to fail within bounds, and leave no image.
async fn fails(cri: &mut Cri, image: &str) -> anyhow::Result<Status> {
    let answer = tokio::time::timeout(PATIENCE, cri.pull(image)).await;
    let status = refused(
        image,
        answer.with_context(|| format!("{image}: no answer after {PATIENCE:?}"))?,
    )?;
    ensure!(
        !present(cri, image).await?,
        "{image}: an image is there after the pull failed"
    );
    Ok(status)
}

async fn present(cri: &mut Cri, image: &str) -> anyhow::Result<bool> {
    let request = ImageStatusRequest {
        image: Some(client::image_spec(image)),
        verbose: false,
    };
    Ok(cri
        .image
        .image_status(request)
        .await
        .context("ImageStatus")?
        .into_inner()
        .image
        .is_some())
}

pub(crate) async fn references_that_are_no_references(node: &mut Node) -> anyhow::Result<()> {
    let answer = node.cri.image.pull_image(PullImageRequest::default()).await;
    refused_with(
        "PullImage without an image",
        answer,
        Code::InvalidArgument,
        &["image"],
    )?;
    for image in [
        "",
        "lab/UPPER",
        "a b",
        "lab/x@sha256:12",
        "http://lab/x",
        "lab/x:",
        "../x",
        "lab/\u{0}x",
    ] {
        let answer = node.cri.pull(image).await;
        refused_with(
            &format!("PullImage {image:?}"),
            answer,
            Code::InvalidArgument,
            &[],
        )?;
    }
    Ok(())
}

/// ImageStatus says so without an error; CreateContainer names the image.
pub(crate) async fn an_image_that_was_never_pulled(node: &mut Node) -> anyhow::Result<()> {
    let image = "registry.lab/never-pulled:latest";
    ensure!(
        !present(&mut node.cri, image).await?,
        "ImageStatus found it"
    );
    let pod = client::pod("no-image");
    let id = node.cri.run_pod(&pod).await.context("RunPodSandbox")?;
    let mut container = client::container("main", &["true"], &pod);
    container.image = Some(client::image_spec(image));
    let status = refused(
        "CreateContainer",
        node.cri.create(&id, &container, &pod).await,
    )?;
    node.cri.discard_pod(&id).await.context("remove the pod")?;
    says("CreateContainer", status.message(), &[image])
}

pub(crate) async fn a_layer_whose_digest_lies(node: &mut Node) -> anyhow::Result<()> {
    let image = format!("{}/lying-layer:latest", registry(100_000)?.host());
    let status = fails(&mut node.cri, &image).await?;
    says("PullImage", status.message(), &["digest"])
}

pub(crate) async fn a_manifest_whose_digest_lies(node: &mut Node) -> anyhow::Result<()> {
    let registry = registry(1000)?;
    let image = format!(
        "{}/lying-manifest@{}",
        registry.host(),
        registry.manifest_digest()
    );
    let status = fails(&mut node.cri, &image).await?;
    says("PullImage", status.message(), &["digest"])
}

pub(crate) async fn a_layer_cut_short(node: &mut Node) -> anyhow::Result<()> {
    let image = format!("{}/short-layer:latest", registry(1_000_000)?.host());
    fails(&mut node.cri, &image).await.map(drop)
}

pub(crate) async fn a_dropped_connection_is_resumed(node: &mut Node) -> anyhow::Result<()> {
    let image = format!("{}/dropped:latest", registry(1_000_000)?.host());
    node.cri.pull(&image).await.context("PullImage")?;
    ensure!(
        present(&mut node.cri, &image).await?,
        "the image is not there"
    );
    Ok(())
}

/// 401, 404, 429 and 500: what the registry said is in the message, and nothing hangs.
pub(crate) async fn a_registry_that_refuses(node: &mut Node) -> anyhow::Result<()> {
    let host = registry(1000)?.host();
    for code in ["401", "404", "429", "500"] {
        let image = format!("{host}/status-{code}:latest");
        let status = fails(&mut node.cri, &image).await?;
        says(&image, status.message(), &[&host])?;
        let told = match code {
            // not found may also be said in words
            "404" => ["404", "not found"].as_slice(),
            "401" => ["401", "nauthorized", "credentials", "denied"].as_slice(),
            "429" => ["429"].as_slice(),
            // the kubelet looks for this word and backs off
            _ => ["RegistryUnavailable"].as_slice(),
        };
        ensure!(
            told.iter().any(|word| status.message().contains(word)),
            "{image}: none of {told:?} in: {status}"
        );
    }
    let nobody = "127.0.0.1:1/nobody:latest";
    let status = fails(&mut node.cri, nobody).await?;
    says(nobody, status.message(), &["RegistryUnavailable"])
}

pub(crate) async fn a_registry_that_never_answers(node: &mut Node) -> anyhow::Result<()> {
    let image = format!("{}/hang:latest", registry(1000)?.host());
    fails(&mut node.cri, &image).await.map(drop)
}

pub(crate) async fn a_layer_that_stalls(node: &mut Node) -> anyhow::Result<()> {
    let image = format!("{}/stall:latest", registry(1_000_000)?.host());
    fails(&mut node.cri, &image).await.map(drop)
}

/// A daemon whose root is 160 MiB: a layer of that size fails with the reason, its space comes back,
/// and an image that fits can be pulled.
pub(crate) async fn a_full_disk_during_unpack(node: &mut Node) -> anyhow::Result<()> {
    let root = Path::new("/run/small");
    std::fs::create_dir_all(root)?;
    mount::tmpfs(root, "160M")?;
    let outcome = on_small_disk(node, root).await;
    // lazily: a daemon that was killed may not have let go of it yet
    mount::unmount(root)?;
    outcome
}

async fn on_small_disk(node: &Node, root: &Path) -> anyhow::Result<()> {
    let endpoint = "unix:///run/skiff-small/skiff.sock";
    let lib = root.join("lib");
    let arguments = [
        "--listen",
        endpoint,
        "--root",
        &lib.to_string_lossy(),
        "--state",
        "/run/skiff-small",
    ];
    let (_daemon, mut cri) = Daemon::start(
        &node.options.daemon.skiffd,
        &arguments,
        &node.options.daemon.log,
        endpoint,
    )
    .await?;
    let before = used(root)?;
    let large = format!("{}/good:latest", inflating(160 << 20)?.host());
    let status = fails(&mut cri, &large).await?;
    says("PullImage", &status.message().to_lowercase(), &["space"])?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while used(root)? > before + (1 << 20) {
        if Instant::now() > deadline {
            bail!(
                "{} bytes are in use after the failed pull, {before} before",
                used(root)?
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let small = format!("{}/good:latest", registry(100_000)?.host());
    cri.pull(&small)
        .await
        .context("PullImage of an image that fits")
        .map(drop)
}

fn used(path: &Path) -> anyhow::Result<u64> {
    let info = rustix::fs::statvfs(path)?;
    Ok((info.f_blocks - info.f_bfree) * info.f_frsize)
}

/// The image of a volume is held by the container, for a daemon that comes later, too.
pub(crate) async fn an_image_volume_outlives_the_daemon(node: &mut Node) -> anyhow::Result<()> {
    let image = format!("{}/good:latest", registry(1000)?.host());
    node.cri.pull(&image).await.context("PullImage")?;
    let pod = client::pod("image-volume");
    let id = node.cri.run_pod(&pod).await.context("RunPodSandbox")?;
    let mut container = client::container("main", &["sleep", "600"], &pod);
    container.mounts.push(skiff_cri::v1::Mount {
        container_path: "/image".into(),
        image: Some(client::image_spec(&image)),
        readonly: true,
        ..Default::default()
    });
    let container = node.cri.create(&id, &container, &pod).await?;
    node.cri.start(&container).await?;
    node.daemon.crash()?;
    let (cri, _) = node.daemon.restart().await?;
    node.cri = cri;
    let remove = skiff_cri::v1::RemoveImageRequest {
        image: Some(client::image_spec(&image)),
    };
    node.cri.image.remove_image(remove).await?;
    let read = node
        .cri
        .exec(&container, &["wc", "-c", "/image/file"], 10)
        .await?;
    let size = String::from_utf8_lossy(&read.stdout).into_owned();
    node.cri.discard_pod(&id).await.context("remove the pod")?;
    ensure!(
        size.starts_with("1000"),
        "the volume after a restart: {size:?}"
    );
    ensure!(
        !present(&mut node.cri, &image).await?,
        "the image is there after its last user has gone"
    );
    Ok(())
}
