//! User namespaces.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, ensure};
use skiff_cri::v1::{IdMapping, Int64Value, NamespaceMode, StatusRequest, UserNamespace};
use skiff_integration::client::image_spec;
use skiff_integration::registry::Registry;
use skiff_probe::report::Report;

use crate::lab::{Lab, Shape, same};

const LENGTH: u32 = 65536;
/// An image of several layers.
const NGINX: &str = "registry.k8s.io/e2e-test-images/nginx:1.14-2";

fn mapping(container_id: u32, host_id: u32, length: u32) -> IdMapping {
    IdMapping {
        host_id,
        container_id,
        length,
    }
}

/// Asks for a user namespace, as a kubelet does: the same for the pod and for its container.
fn set(shape: &mut Shape, namespace: &UserNamespace) {
    let pod = shape.pod_linux().security_context.get_or_insert_default();
    let options = pod.namespace_options.get_or_insert_default();
    options.pid = NamespaceMode::Container.into();
    options.userns_options = Some(namespace.clone());
    let options = shape.security().namespace_options.get_or_insert_default();
    options.userns_options = Some(namespace.clone());
}

fn mapped(name: &str, host: u32) -> Shape {
    let mut shape = Shape::new(name);
    let namespace = UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: vec![mapping(0, host, LENGTH)],
        gids: vec![mapping(0, host, LENGTH)],
    };
    set(&mut shape, &namespace);
    shape
}

/// A volume with the pod's mapping, in a directory of that owner on the host.
fn volume(shape: &mut Shape, host: u32, path: &str, inside: &str) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make {path}"))?;
    let mount = shape.mount(path, inside);
    mount.uid_mappings = vec![mapping(0, host, LENGTH)];
    mount.gid_mappings = vec![mapping(0, host, LENGTH)];
    Ok(())
}

pub(crate) async fn advertised(lab: &mut Lab) -> anyhow::Result<()> {
    let status = lab
        .cri
        .runtime
        .status(StatusRequest::default())
        .await?
        .into_inner();
    let handler = status
        .runtime_handlers
        .into_iter()
        .find(|handler| handler.name.is_empty());
    let features = handler
        .and_then(|handler| handler.features)
        .unwrap_or_default();
    ensure!(
        features.user_namespaces,
        "the default handler's features: {features:?}"
    );
    Ok(())
}

/// The mapping is the one asked for, and owns every namespace of the pod.
pub(crate) async fn the_mapping_that_was_asked_for(lab: &mut Lab) -> anyhow::Result<()> {
    let host = 2_000_000;
    lab.look(mapped("mapping", host), async |inside| {
        let report = inside.report.clone();
        let line = [0, u64::from(host), u64::from(LENGTH)];
        same("uid_map", report.uid_map.as_slice(), &[line])?;
        same("gid_map", report.gid_map.as_slice(), &[line])?;
        same("user", report.field("Uid"), "0 0 0 0")?;
        let user = report
            .namespaces
            .get("user")
            .context("no user namespace")?
            .id;
        ensure!(
            Report::read()?.namespaces.get("user").map(|ns| ns.id) != Some(user),
            "the user namespace is the host's"
        );
        for name in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
            let owner = report.namespaces.get(name).and_then(|ns| ns.owner);
            same(&format!("owner of the {name} namespace"), owner, Some(user))?;
        }
        let exec = inside.exec_report().await?;
        same(
            "namespaces of an exec",
            &exec.namespaces,
            &report.namespaces,
        )?;
        inside
            .outcomes(&[
                // the pod's own, but not for a root without CAP_NET_ADMIN
                ("write=/proc/sys/net/ipv4/ip_default_ttl:64", "EACCES|EROFS"),
                ("stat=/bin/busybox", "ok"),
            ])
            .await?;
        let outcome = inside.attempt(&["stat=/bin/busybox", "stat=/etc"]).await?;
        for (path, outcome) in outcome {
            ensure!(
                outcome.contains(" 0 0 "),
                "{path}: {outcome}, not owned by 0 0"
            );
        }
        Ok(())
    })
    .await
}

/// Files that are written land on the disk with the owners the mapping of their mount says, and the
/// image's files keep theirs.
pub(crate) async fn owners_of_files(lab: &mut Lab) -> anyhow::Result<()> {
    let host = 2_100_000;
    let tmpfs = "/run/isolation-tmpfs";
    fs::create_dir_all(tmpfs)?;
    skiff_integration::mount::tmpfs(tmpfs, "1m")?;
    let outcome = async {
        let mut shape = mapped("owners", host);
        volume(&mut shape, host, "/var/isolation-volume", "/volume")?;
        volume(&mut shape, host, tmpfs, "/memory")?;
        for path in ["/var/isolation-volume", tmpfs] {
            fs::write(format!("{path}/given"), "given")?;
        }
        lab.look(shape, async |inside| {
            inside
                .outcomes(&[
                    ("create=/file", "ok"),
                    ("create=/volume/file", "ok"),
                    ("create=/memory/file", "ok"),
                    ("read=/volume/given", "ok: given"),
                ])
                .await?;
            let outcomes = inside
                .attempt(&["stat=/volume/given", "stat=/memory/file"])
                .await?;
            for (path, outcome) in outcomes {
                ensure!(
                    outcome.contains(" 0 0 "),
                    "{path}: {outcome}, not 0 0 inside"
                );
            }
            inside.run(&["chown", "1000:1001", "/volume/file"]).await?;
            Ok(())
        })
        .await?;
        // the volume is idmapped: 0 inside is 0 on the disk
        let owner = |path: String| -> anyhow::Result<(u32, u32)> {
            let data = fs::metadata(&path).with_context(|| path)?;
            Ok((data.uid(), data.gid()))
        };
        same(
            "owner on the disk",
            owner("/var/isolation-volume/file".to_owned())?,
            (1000, 1001),
        )?;
        same("owner on tmpfs", owner(format!("{tmpfs}/file"))?, (0, 0))
    }
    .await;
    skiff_integration::mount::unmount(tmpfs)?;
    outcome
}

/// Files of an image volume are whose they are in the image, of the whole of it and of a part. A
/// kubelet may give the mapping or not.
pub(crate) async fn image_volumes(lab: &mut Lab) -> anyhow::Result<()> {
    let host = 2_900_000;
    let mut shape = mapped("image-volume", host);
    lab.pull(NGINX).await?;
    for (inside, part, given) in [
        ("/whole", "", false),
        ("/part", "etc/nginx", false),
        ("/given", "", true),
    ] {
        let mount = shape.mount("", inside);
        mount.image = Some(image_spec(NGINX));
        mount.image_sub_path = part.to_owned();
        mount.readonly = true;
        if given {
            mount.uid_mappings = vec![mapping(0, host, LENGTH)];
            mount.gid_mappings = vec![mapping(0, host, LENGTH)];
        }
    }
    lab.look(shape, async |inside| {
        let files = [
            "stat=/whole/etc/nginx/nginx.conf",
            "stat=/part/nginx.conf",
            "stat=/given/etc",
        ];
        for (path, outcome) in inside.attempt(&files).await? {
            ensure!(
                outcome.contains(" 0 0 "),
                "{path}: {outcome}, not 0 0 inside"
            );
        }
        inside
            .outcomes(&[
                ("read=/part/nginx.conf", "ok"),
                ("create=/whole/file", "EROFS"),
                ("write=/part/nginx.conf:x", "EROFS"),
            ])
            .await
    })
    .await
}

/// A volume that the image declares begins with what the image has there, belongs to whom it does
/// there, and can be written beside a root file system that cannot; with and without a user
/// namespace.
pub(crate) async fn volumes_of_the_image(lab: &mut Lab) -> anyhow::Result<()> {
    let registry = Registry::serve_volume("from the image")?;
    let host = registry.host();
    let trust = format!("/etc/skiff/certs.d/{host}");
    fs::create_dir_all(&trust)?;
    fs::write(
        format!("{trust}/hosts.toml"),
        format!("server = \"http://{host}\"\n"),
    )?;
    let image = format!("{host}/good:latest");
    for mut shape in [
        Shape::new("own-volume"),
        mapped("own-volume-mapped", 3_000_000),
    ] {
        shape.container.image = Some(image_spec(&image));
        shape.security().readonly_rootfs = true;
        lab.look(shape, async |inside| {
            inside
                .outcomes(&[
                    ("read=/data/file", "ok: from the image"),
                    ("create=/data/new", "ok"),
                    ("create=/new", "EROFS"),
                ])
                .await?;
            for (path, outcome) in inside.attempt(&["stat=/data/file"]).await? {
                ensure!(outcome.contains(" 1000 1001 "), "{path}: {outcome}");
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Two pods are different users of the host and cannot see each other.
pub(crate) async fn two_pods(lab: &mut Lab) -> anyhow::Result<()> {
    let (one, other) = (2_200_000, 2_300_000);
    let pod = mapped("one", one);
    lab.look(pod, async |inside| {
        let first = inside.report.clone();
        let id = inside.id.clone();
        inside
            .lab
            .look(mapped("other", other), async |inside| {
                let second = &inside.report;
                ensure!(
                    first.uid_map != second.uid_map,
                    "both pods have {:?}",
                    first.uid_map
                );
                ensure!(
                    first.namespaces.get("user") != second.namespaces.get("user"),
                    "both pods have one user namespace"
                );
                ensure!(id != inside.id, "one container");
                Ok(())
            })
            .await
    })
    .await
}

/// No two living pods have an id of the host in common; what a pod had is free when it has stopped.
pub(crate) async fn ids_of_another_pod(lab: &mut Lab) -> anyhow::Result<()> {
    let host = 2_700_000;
    lab.look(mapped("first", host), async |inside| {
        let other = mapped("last-id-in-common", host + LENGTH - 1);
        inside.lab.refuses(other, &["belong to pod"]).await
    })
    .await?;
    lab.look(mapped("next", host), async |_| Ok(())).await
}

/// Root of a user namespace is not root of the host's network, whose devices it sees in /sys.
pub(crate) async fn the_hosts_network(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = mapped("host-network", 2_800_000);
    let node = NamespaceMode::Node.into();
    let pod = shape.pod_linux().security_context.get_or_insert_default();
    pod.namespace_options.get_or_insert_default().network = node;
    let options = shape.security().namespace_options.get_or_insert_default();
    options.network = node;
    lab.look(shape, async |inside| {
        let line = [0, 2_800_000, u64::from(LENGTH)];
        same("uid_map", inside.report.uid_map.as_slice(), &[line])?;
        let net = |report: &Report| report.namespaces.get("net").map(|ns| ns.id);
        same("network", net(&inside.report), net(&Report::read()?))?;
        inside
            .outcomes(&[
                ("stat=/sys/class/net/lo", "ok"),
                ("write=/sys/class/net/lo/mtu:1500", "EROFS|EACCES"),
                (
                    "write=/proc/sys/net/ipv4/ip_default_ttl:63",
                    "EACCES|EPERM|EROFS",
                ),
            ])
            .await
    })
    .await
}

/// Root of a user namespace is nobody outside of it.
pub(crate) async fn attempts_to_escape(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = mapped("escape", 2_400_000);
    shape.security().capabilities = Some(skiff_cri::v1::Capability {
        add_capabilities: vec!["ALL".to_owned()],
        ..Default::default()
    });
    fs::create_dir_all("/var/isolation-secret")?;
    fs::write("/var/isolation-secret/key", "secret")?;
    fs::set_permissions(
        "/var/isolation-secret/key",
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )?;
    shape.mount("/var/isolation-secret", "/secret");
    lab.look(shape, async |inside| {
        inside
            .outcomes(&[
                // a file of the host's root, on a mount without the pod's mapping
                ("read=/secret/key", "EACCES"),
                ("device=/mem:c:1:1", "ok: not made, EPERM"),
                ("device=/sda:b:8:0", "ok: not made, EPERM"),
                ("write=/proc/sys/kernel/panic:0", "EACCES|EPERM|EROFS"),
                (
                    "write=/proc/sys/kernel/core_pattern:x",
                    "EACCES|EPERM|EROFS",
                ),
                ("write=/proc/sysrq-trigger:h", "EACCES|EPERM|EROFS|EIO"),
                ("open=/proc/kcore", "EACCES|EPERM"),
                ("call=init_module", "EPERM"),
                ("call=swapon", "EPERM"),
                ("call=kexec_load", "EPERM|ENOSYS"),
                ("call=acct", "EPERM|ENOSYS"),
                ("call=open_by_handle_at", "EPERM|EFAULT|EBADF"),
                // CVE-2022-0492: a hierarchy of cgroup v1 with a release agent
                ("cgroup=/tmp", "EPERM|EACCES|ENODEV|EBUSY|EINVAL"),
                (
                    "write=/sys/fs/cgroup/release_agent:/x",
                    "ENOENT|EACCES|EROFS|EPERM",
                ),
            ])
            .await
    })
    .await
}

/// Only the pod's own namespace and the host's can be asked for, with one mapping that has root.
pub(crate) async fn requests_that_are_refused(lab: &mut Lab) -> anyhow::Result<()> {
    let host = 2_500_000;
    let good = vec![mapping(0, host, LENGTH)];
    let (pod, container, target) = (
        NamespaceMode::Pod,
        NamespaceMode::Container,
        NamespaceMode::Target,
    );
    let cases = [
        ("container-mode", container, good.clone(), good.clone()),
        ("target-mode", target, good.clone(), good.clone()),
        ("nothing-mapped", pod, Vec::new(), Vec::new()),
        (
            "two-lines",
            pod,
            vec![mapping(0, host, 10), mapping(10, host + 10, 10)],
            good.clone(),
        ),
        (
            "no-root",
            pod,
            vec![mapping(1, host, LENGTH)],
            vec![mapping(1, host, LENGTH)],
        ),
        (
            "no-length",
            pod,
            vec![mapping(0, host, 0)],
            vec![mapping(0, host, 0)],
        ),
        (
            "groups-differ",
            pod,
            good.clone(),
            vec![mapping(0, host + 1, LENGTH)],
        ),
        (
            "beyond-the-end",
            pod,
            vec![mapping(0, u32::MAX - 5, LENGTH)],
            vec![mapping(0, u32::MAX - 5, LENGTH)],
        ),
    ];
    for (name, mode, uids, gids) in cases {
        let mut shape = Shape::new(name);
        let namespace = UserNamespace {
            mode: mode.into(),
            uids,
            gids,
        };
        set(&mut shape, &namespace);
        let refused = lab.refuses(shape, &[]).await;
        refused.with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// A user beyond the mapping cannot be run as.
pub(crate) async fn a_user_that_is_not_mapped(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = mapped("not-mapped", 2_600_000);
    shape.security().run_as_user = Some(Int64Value {
        value: i64::from(LENGTH),
    });
    lab.refuses(shape, &[]).await
}
