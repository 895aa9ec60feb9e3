//! Volumes: propagation, recursive read-only, images, options, and paths that lead elsewhere.

use std::fs;

use anyhow::{Context, ensure};
use skiff_cri::v1::MountPropagation;
use skiff_integration::client::image_spec;
use skiff_integration::mount;
use skiff_probe::report::Report;

use crate::lab::{Lab, Shape, same};

const NGINX: &str = "registry.k8s.io/e2e-test-images/nginx:1.14-2";

fn directory(path: &str) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make {path}"))
}

/// A mount that the host makes in a volume is seen with `HostToContainer` and not with `Private`; one
/// that a container makes reaches the host with `Bidirectional` only.
pub(crate) async fn propagation(lab: &mut Lab) -> anyhow::Result<()> {
    let volume = "/var/isolation-shared";
    directory(&format!("{volume}/late"))?;
    directory(&format!("{volume}/back"))?;
    mount::bind(volume, volume)?;
    let outcome = async {
        mount::shared(volume)?;
        let mut shape = Shape::new("propagation");
        shape
            .pod_linux()
            .security_context
            .get_or_insert_default()
            .privileged = true;
        shape.security().privileged = true;
        for (path, kind) in [
            ("/private", MountPropagation::PropagationPrivate),
            ("/slave", MountPropagation::PropagationHostToContainer),
            ("/shared", MountPropagation::PropagationBidirectional),
        ] {
            shape.mount(volume, path).propagation = kind.into();
        }
        lab.look(shape, async |inside| {
            let kind = |point: &str| {
                let mount = inside.report.mount(point);
                mount
                    .map(|mount| mount.propagation.join(","))
                    .unwrap_or_default()
            };
            // it may be shared with what the container makes of it, never with the host
            let host = Report::read()?;
            let host = host.mount(volume).context("the volume is not mounted")?;
            let private = kind("/private");
            ensure!(
                !private.contains("master:") && host.propagation.iter().all(|tag| *tag != private),
                "/private is {private:?}, the volume {:?}",
                host.propagation
            );
            ensure!(
                kind("/slave").contains("master:"),
                "/slave is {:?}",
                kind("/slave")
            );
            ensure!(
                kind("/shared").contains("shared:"),
                "/shared is {:?}",
                kind("/shared")
            );
            mount::tmpfs(format!("{volume}/late"), "64k")?;
            fs::write(format!("{volume}/late/file"), "late")?;
            inside
                .outcomes(&[
                    ("read=/private/late/file", "ENOENT"),
                    ("read=/slave/late/file", "ok: late"),
                    ("read=/shared/late/file", "ok: late"),
                ])
                .await?;
            inside
                .run(&["mount", "-t", "tmpfs", "csi", "/shared/back"])
                .await?;
            ensure!(
                mount::points()?.contains(&format!("{volume}/back")),
                "the host does not see it"
            );
            Ok(())
        })
        .await
    }
    .await;
    for point in ["/late", "/back", ""] {
        let point = format!("{volume}{point}");
        if mount::points()?.contains(&point) {
            mount::unmount(&point)?;
        }
    }
    outcome
}

/// With `readonly` the mounts below stay writable, with `recursive_read_only` they do not.
pub(crate) async fn recursive_read_only(lab: &mut Lab) -> anyhow::Result<()> {
    let volume = "/var/isolation-recursive";
    directory(&format!("{volume}/below"))?;
    mount::tmpfs(format!("{volume}/below"), "64k")?;
    let outcome = async {
        let mut shape = Shape::new("recursive");
        shape.mount(volume, "/flat").readonly = true;
        let mount = shape.mount(volume, "/deep");
        (mount.readonly, mount.recursive_read_only) = (true, true);
        lab.look(shape, async |inside| {
            inside
                .outcomes(&[
                    ("create=/flat/file", "EROFS"),
                    ("create=/flat/below/file", "ok"),
                    ("create=/deep/file", "EROFS"),
                    ("create=/deep/below/other", "EROFS"),
                ])
                .await
        })
        .await?;
        for (name, readonly, propagation) in [
            (
                "recursive-writable",
                false,
                MountPropagation::PropagationPrivate,
            ),
            (
                "recursive-slave",
                true,
                MountPropagation::PropagationHostToContainer,
            ),
        ] {
            let mut shape = Shape::new(name);
            let mount = shape.mount(volume, "/deep");
            mount.recursive_read_only = true;
            mount.readonly = readonly;
            mount.propagation = propagation.into();
            let refused = lab.refuses(shape, &[]).await;
            refused.with_context(|| name.to_owned())?;
        }
        Ok(())
    }
    .await;
    mount::unmount(format!("{volume}/below"))?;
    outcome
}

/// Mounts a path of the image, read-only as such volumes are.
fn image(shape: &mut Shape, inside: &str, path: &str) {
    let mount = shape.mount("", inside);
    mount.image = Some(image_spec(NGINX));
    mount.image_sub_path = path.to_owned();
    mount.readonly = true;
}

/// An image as a volume, whole and in part.
pub(crate) async fn image_volumes(lab: &mut Lab) -> anyhow::Result<()> {
    lab.pull(NGINX).await?;
    let mut shape = Shape::new("image-volume");
    image(&mut shape, "/image", "");
    image(&mut shape, "/part", "etc/nginx");
    lab.look(shape, async |inside| {
        inside
            .outcomes(&[
                ("read=/image/etc/nginx/nginx.conf", "ok"),
                ("read=/part/nginx.conf", "ok"),
                ("create=/image/file", "EROFS"),
                ("write=/part/nginx.conf:x", "EROFS"),
            ])
            .await
    })
    .await?;
    let mut shape = Shape::new("image-volume-outside");
    image(&mut shape, "/part", "../../etc");
    lab.refuses(shape, &[]).await?;
    let mut shape = Shape::new("image-volume-nowhere");
    image(&mut shape, "/part", "no/such/path");
    lab.refuses(shape, &["no/such/path"]).await
}

pub(crate) async fn options(lab: &mut Lab) -> anyhow::Result<()> {
    let volume = "/var/isolation-options";
    directory(volume)?;
    fs::copy("/usr/local/bin/skiff-probe", format!("{volume}/program"))?;
    let mut shape = Shape::new("options");
    shape.mount(volume, "/plain");
    shape.mount(volume, "/strict").mount_options =
        ["noexec", "nodev", "nosuid"].map(str::to_owned).to_vec();
    lab.look(shape, async |inside| {
        let strict = inside
            .report
            .mount("/strict")
            .context("nothing on /strict")?;
        for option in ["noexec", "nodev", "nosuid"] {
            ensure!(strict.has(option), "/strict is {:?}", strict.options);
        }
        inside
            .outcomes(&[
                ("execute=/plain/program:report", "ok"),
                ("execute=/strict/program:report", "EACCES"),
                ("device=/strict/null:c:1:3", "ok: made, not opened, EACCES"),
            ])
            .await
    })
    .await
}

/// A volume whose path is not there yet is an empty directory, as kubelets and Docker have it.
pub(crate) async fn a_path_that_is_not_there(lab: &mut Lab) -> anyhow::Result<()> {
    let volume = "/var/isolation-new/deep/down";
    let mut shape = Shape::new("not-there");
    shape.mount(volume, "/new");
    lab.look(shape, async |inside| {
        inside.outcomes(&[("create=/new/file", "ok")]).await
    })
    .await?;
    ensure!(
        fs::exists(format!("{volume}/file"))?,
        "no {volume}/file on the host"
    );
    Ok(())
}

/// A link in the image at the place of a mount cannot lead it out of the container.
pub(crate) async fn a_link_at_the_mount_point(lab: &mut Lab) -> anyhow::Result<()> {
    let (volume, outside) = ("/var/isolation-link", "/var/isolation-outside");
    directory(volume)?;
    directory(outside)?;
    fs::write(format!("{volume}/file"), "volume")?;
    let link = format!("{volume}/out");
    if fs::symlink_metadata(&link).is_err() {
        std::os::unix::fs::symlink(outside, &link)?;
    }
    let mut shape = Shape::new("link");
    // the first volume has a link where the second is mounted
    shape.mount(volume, "/volume");
    shape.mount(volume, "/volume/out");
    lab.look(shape, async |inside| {
        let file = inside.attempt(&["read=/volume/out/file"]).await?;
        let host = fs::read_dir(outside)?.count();
        same("entries of the directory outside", host, 0)?;
        ensure!(
            file.values()
                .all(|outcome| outcome == "ok: volume" || outcome == "ENOENT"),
            "{file:?}"
        );
        Ok(())
    })
    .await?;
    same(
        "entries of the directory outside",
        fs::read_dir(outside)?.count(),
        0,
    )
}

/// A directory of the host with a socket in it, as the kubelet's pod-resources is mounted: whoever is in
/// the container talks to who listens outside, also after a restart of that. Nobody but the kubelet
/// changes owners of a volume.
pub(crate) async fn a_socket_of_the_host(lab: &mut Lab) -> anyhow::Result<()> {
    let volume = "/var/isolation-socket";
    let _ = fs::remove_dir_all(volume);
    directory(volume)?;
    std::os::unix::fs::chown(volume, Some(1234), Some(1235))?;
    let socket = format!("{volume}/agent.sock");
    let first = std::os::unix::net::UnixListener::bind(&socket)?;
    let mut shape = Shape::new("socket");
    shape.mount(volume, "/pod-resources").readonly = true;
    lab.look(shape, async |inside| {
        let connect = "connect=/pod-resources/agent.sock";
        inside.outcomes(&[(connect, "ok")]).await?;
        drop(first);
        inside.outcomes(&[(connect, "ECONNREFUSED")]).await?;
        fs::remove_file(&socket)?;
        let _second = std::os::unix::net::UnixListener::bind(&socket)?;
        inside.outcomes(&[(connect, "ok")]).await?;
        let owners = inside.attempt(&["stat=/pod-resources"]).await?;
        ensure!(
            owners
                .values()
                .all(|outcome| outcome.contains(" 1234 1235 ")),
            "{owners:?}"
        );
        Ok(())
    })
    .await
}
