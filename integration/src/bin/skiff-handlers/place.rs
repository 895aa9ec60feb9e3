//! What a container that another runtime makes is in: limits, filters, namespaces, files.

use std::os::unix::fs::MetadataExt;

use anyhow::{Context, ensure};
use skiff_cri::v1::security_profile::ProfileType;
use skiff_cri::v1::{
    ContainerConfig, IdMapping, LinuxContainerResources, LinuxContainerSecurityContext, Mount,
    NamespaceMode, PodSandboxConfig, SecurityProfile, UpdateContainerResourcesRequest,
    UserNamespace,
};
use skiff_integration::client::{self, BUSYBOX};

use crate::node::Node;

fn security(container: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    let linux = container.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default()
}

fn same(what: &str, found: &str, wanted: &str) -> anyhow::Result<()> {
    ensure!(found == wanted, "{what} is {found:?}, not {wanted:?}");
    Ok(())
}

pub(crate) async fn limits_update_and_memory(node: &mut Node) -> anyhow::Result<()> {
    let limits = |container: &mut ContainerConfig| {
        container.linux.get_or_insert_default().resources = Some(client::limits());
    };
    let running = node
        .launch_as("limits", "sleep 3600", |_, container| limits(container))
        .await?;
    let id = running.id.clone();
    let read = |file: &str| format!("cat /sys/fs/cgroup/{file}");
    same(
        "memory.max",
        &node.says(&id, &read("memory.max")).await?,
        "134217728",
    )?;
    same(
        "cpu.max",
        &node.says(&id, &read("cpu.max")).await?,
        "50000 100000",
    )?;
    let linux = LinuxContainerResources {
        memory_limit_in_bytes: 96 << 20,
        cpu_quota: 70_000,
        cpu_period: 100_000,
        ..Default::default()
    };
    let update = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    node.cri
        .runtime
        .update_container_resources(update)
        .await
        .context("Update")?;
    same(
        "memory.max",
        &node.says(&id, &read("memory.max")).await?,
        "100663296",
    )?;
    same(
        "cpu.max",
        &node.says(&id, &read("cpu.max")).await?,
        "70000 100000",
    )?;
    node.discard(&running).await?;
    let hungry = "sleep 0.2; x=a; while :; do x=$x$x; done";
    let running = node
        .launch_as("hungry", hungry, |_, container| limits(container))
        .await?;
    let status = node.ended(&running.id).await?;
    same("the reason", &status.reason, "OOMKilled")?;
    node.discard(&running).await
}

pub(crate) async fn seccomp(node: &mut Node) -> anyhow::Result<()> {
    for (kind, wanted) in [
        (ProfileType::RuntimeDefault, "2"),
        (ProfileType::Unconfined, "0"),
    ] {
        let profile = SecurityProfile {
            profile_type: kind.into(),
            localhost_ref: String::new(),
        };
        let change = |_: &mut PodSandboxConfig, container: &mut ContainerConfig| {
            security(container).seccomp = Some(profile);
        };
        let running = node.launch_as("seccomp", "sleep 3600", change).await?;
        let script = "sed -n 's/^Seccomp:\\t//p' /proc/1/status /proc/self/status | tr -d '\\n'";
        let found = node.says(&running.id, script).await?;
        same(
            "the mode of the first process and of an exec",
            &found,
            &wanted.repeat(2),
        )?;
        node.discard(&running).await?;
    }
    Ok(())
}

pub(crate) async fn what_the_pod_shares(node: &mut Node) -> anyhow::Result<()> {
    let running = node
        .launch("shares", "echo there > /dev/shm/word; sleep 3600")
        .await?;
    let peer = client::container("peer", &["sleep", "3600"], &running.pod);
    let peer = node
        .cri
        .create(&running.pod_id, &peer, &running.pod)
        .await?;
    node.cri.start(&peer).await?;
    let both = "hostname; ip -4 -o address show eth0 | tr -s ' ' | cut -d' ' -f4; \
                readlink /proc/self/ns/ipc; cat /etc/hostname";
    let (one, other) = (
        node.says(&running.id, both).await?,
        node.says(&peer, both).await?,
    );
    same(
        "the peer's host name, address and IPC namespace",
        &other,
        &one,
    )?;
    ensure!(
        one.contains(&running.pod.hostname) && one.contains("10.88."),
        "{one}"
    );
    same(
        "shared memory",
        &node.says(&peer, "cat /dev/shm/word").await?,
        "there",
    )?;
    let flags = node
        .says(&peer, "grep ' /dev/shm ' /proc/self/mountinfo")
        .await?;
    ensure!(flags.contains("nosuid,nodev,noexec"), "{flags}");
    node.discard(&running).await
}

pub(crate) async fn volumes_and_images(node: &mut Node) -> anyhow::Result<()> {
    let directory = "/var/lib/volume";
    std::fs::create_dir_all(directory)?;
    std::fs::write(format!("{directory}/word"), "volume")?;
    let change = |_: &mut PodSandboxConfig, container: &mut ContainerConfig| {
        container.mounts = vec![
            Mount {
                container_path: "/volume".into(),
                host_path: directory.into(),
                readonly: true,
                ..Default::default()
            },
            Mount {
                container_path: "/image".into(),
                readonly: true,
                image: Some(client::image_spec(BUSYBOX)),
                image_sub_path: "bin".into(),
                ..Default::default()
            },
        ];
    };
    let running = node.launch_as("volumes", "sleep 3600", change).await?;
    let id = running.id.clone();
    same(
        "the volume",
        &node.says(&id, "cat /volume/word").await?,
        "volume",
    )?;
    let script = "test -e /image/busybox && ! touch /image/x 2>/dev/null && ! touch /volume/x \\
                  2>/dev/null && ! /image/busybox true 2>/dev/null && echo fine";
    same("read-only mounts", &node.says(&id, script).await?, "fine")?;
    let script = "echo written > /etc/here && cat /etc/here";
    same(
        "the root file system",
        &node.says(&id, script).await?,
        "written",
    )?;
    node.discard(&running).await?;
    let shared = |_: &mut PodSandboxConfig, container: &mut ContainerConfig| {
        container.mounts = vec![Mount {
            container_path: "/shared".into(),
            host_path: directory.into(),
            propagation: 2,
            ..Default::default()
        }];
    };
    let refusal = node
        .launch_as("shared", "true", shared)
        .await
        .err()
        .context("was taken")?;
    let refusal = format!("{refusal:#}");
    ensure!(refusal.contains("mounts[0].propagation"), "{refusal}");
    node.discard_by_name("shared").await
}

pub(crate) async fn a_user_namespace(node: &mut Node) -> anyhow::Result<()> {
    // Its own for each handler: one whose pod was not removed must not fail the other.
    let host_id = if node.cri.handler == "runc" {
        3_000_000
    } else {
        4_000_000
    };
    let mapping = || IdMapping {
        host_id,
        container_id: 0,
        length: 65536,
    };
    let namespace = UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: vec![mapping()],
        gids: vec![mapping()],
    };
    let directory = "/var/lib/mapped";
    std::fs::create_dir_all(directory)?;
    let change = |pod: &mut PodSandboxConfig, container: &mut ContainerConfig| {
        let context = pod
            .linux
            .get_or_insert_default()
            .security_context
            .get_or_insert_default();
        let options = context.namespace_options.get_or_insert_default();
        options.pid = NamespaceMode::Container.into();
        options.userns_options = Some(namespace.clone());
        let options = security(container)
            .namespace_options
            .get_or_insert_default();
        options.userns_options = Some(namespace.clone());
        container.mounts = vec![Mount {
            container_path: "/volume".into(),
            host_path: directory.into(),
            uid_mappings: vec![mapping()],
            gid_mappings: vec![mapping()],
            ..Default::default()
        }];
    };
    let running = node
        .launch_as("mapped", "echo up; sleep 3600", change)
        .await?;
    let id = running.id.clone();
    let script = "tr -s ' ' < /proc/self/uid_map; id -u; stat -c %u /bin/busybox /volume";
    same(
        "ids",
        &node.says(&id, script).await?,
        &format!(" 0 {host_id} 65536\n0\n0\n0"),
    )?;
    node.says(&id, "touch /volume/file /etc/file").await?;
    let owner = std::fs::metadata(format!("{directory}/file"))?.uid();
    ensure!(owner == 0, "the volume's file belongs to {owner}");
    let answer = node
        .cri
        .exec(&id, &["sh", "-c", "mount -t tmpfs x /proc/sys"], 20)
        .await?;
    ensure!(answer.exit_code != 0, "it could mount");
    node.discard(&running).await
}
