//! Who a container's processes are and what they may.

use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::manifest::{idle, pod, scratch};

/// The id of the only container.
fn main_id(pod: &crate::status::Pod) -> anyhow::Result<String> {
    Ok(pod
        .container("main")
        .context("no main container")?
        .id()
        .to_owned())
}

/// Root in a pod with a user namespace is nobody on the node, owns its volumes, and may not load
/// what it could on the node.
pub(crate) async fn a_user_namespace(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut maps = Vec::new();
    for name in ["mapped-1", "mapped-2"] {
        let main = idle(
            "main",
            json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}),
        );
        let spec = json!({"hostUsers": false, "volumes": [scratch("data")]});
        let (given, pod) = lab.run(&pod(name, &[main], spec)).await?;
        let id = main_id(&pod)?;
        let user = lab
            .exec(
                &id,
                "id -u; touch /data/file; stat -c %u /data/file /bin/busybox",
            )
            .await?;
        ensure!(
            user == "0\n0\n0",
            "{name}: id and owners inside are {user:?}"
        );
        let map = lab.exec(&id, "cat /proc/self/uid_map").await?;
        let fields: Vec<u64> = map
            .split_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        ensure!(
            fields.len() == 3 && fields[0] == 0 && fields[2] == 65536,
            "{name}: mapped as {map:?}"
        );
        ensure!(
            fields[1] >= 65536,
            "{name}: mapped to {}, users of the node",
            fields[1]
        );
        maps.push((given, fields[1]));
    }
    ensure!(
        maps[0].1 != maps[1].1,
        "both pods are mapped to {}",
        maps[0].1
    );
    for (given, _) in maps {
        given.remove().await?;
    }
    Ok(())
}

/// User, groups, and the group that owns the volumes.
pub(crate) async fn users_and_groups(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = idle(
        "main",
        json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}),
    );
    let spec = json!({
        "securityContext": {
            "runAsUser": 1234, "runAsGroup": 2345, "fsGroup": 3456, "supplementalGroups": [4567],
        },
        "volumes": [scratch("data")],
    });
    let (given, pod) = lab.run(&pod("users", &[main], spec)).await?;
    let said = lab
        .exec(&main_id(&pod)?, "id -u; id -g; id -G; stat -c %g /data")
        .await?;
    ensure!(said == "1234\n2345\n2345 3456 4567\n3456", "{said:?}");
    let user = &pod.0["status"]["containerStatuses"][0]["user"]["linux"];
    ensure!(
        user["uid"] == 1234 && user["gid"] == 2345,
        "the status tells {user}"
    );
    given.remove().await
}

/// A restricted container: all capabilities dropped but those added, no new privileges, the usual
/// system call filter, nothing to write but its volumes.
pub(crate) async fn a_restricted_container(lab: Arc<Lab>) -> anyhow::Result<()> {
    let main = idle(
        "main",
        json!({
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "SYS_CHROOT"]},
                "readOnlyRootFilesystem": true,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }),
    );
    let (given, pod) = lab
        .run(&pod(
            "restricted",
            &[main],
            json!({"volumes": [scratch("data")]}),
        ))
        .await?;
    let id = main_id(&pod)?;
    let status = lab
        .exec(
            &id,
            "grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/1/status | awk '{print $2}'",
        )
        .await?;
    // bits 10 and 18
    ensure!(status == "0000000000040400\n1\n2", "{status:?}");
    let outcome = lab
        .exec(&id, "touch /data/x; touch /x 2>/dev/null || echo refused")
        .await?;
    ensure!(
        outcome == "refused",
        "the root file system can be written to"
    );
    given.remove().await
}

/// Kernel settings of the pod's own namespaces.
pub(crate) async fn kernel_settings(lab: Arc<Lab>) -> anyhow::Result<()> {
    let spec: Value = json!({"securityContext": {"sysctls": [
        {"name": "net.ipv4.ip_local_port_range", "value": "20000 30000"},
        {"name": "kernel.shm_rmid_forced", "value": "1"},
    ]}});
    let (given, pod) = lab
        .run(&pod("sysctls", &[idle("main", json!({}))], spec))
        .await?;
    let read = "cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/shm_rmid_forced";
    let said = lab.exec(&main_id(&pod)?, read).await?;
    ensure!(said == "20000\t30000\n1", "{said:?}");
    given.remove().await
}
