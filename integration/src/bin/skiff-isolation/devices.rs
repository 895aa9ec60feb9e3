//! Devices: the default set, given ones, and what CDI describes.

use std::fs;

use anyhow::{Context, ensure};
use skiff_cri::v1::{Capability, CdiDevice, Device};

use crate::lab::{Lab, Shape, same};

pub(crate) async fn the_default_set(lab: &mut Lab) -> anyhow::Result<()> {
    lab.look(Shape::new("default-devices"), async |inside| {
        inside
            .outcomes(&[
                ("open=/dev/null", "ok"),
                ("open=/dev/zero", "ok"),
                ("open=/dev/full", "ok"),
                ("open=/dev/random", "ok"),
                ("open=/dev/urandom", "ok"),
                ("open=/dev/ptmx", "ok"),
                ("write=/dev/null:x", "ok"),
                ("write=/dev/full:x", "ENOSPC"),
                ("open=/dev/kmsg", "ENOENT"),
                ("open=/dev/mem", "ENOENT"),
                // the node can be made, the program of the cgroup refuses to open it
                ("device=/kmsg:c:1:11", "ok: made, not opened, EPERM"),
                ("device=/disk:b:98:0", "ok: made, not opened, EPERM"),
                ("device=/null:c:1:3", "ok: opened"),
            ])
            .await
    })
    .await
}

/// /dev/kmsg is the device that containers get here, and most kernels want a capability for it.
fn reads_kmsg(shape: &mut Shape) {
    shape.security().capabilities = Some(Capability {
        add_capabilities: vec!["SYSLOG".to_owned()],
        ..Default::default()
    });
}

/// A device under another name, with only the rights it was given.
pub(crate) async fn a_given_device(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("given-device");
    reads_kmsg(&mut shape);
    for (path, permissions) in [("/dev/log-r", "r"), ("/dev/log-rw", "rwm")] {
        shape.container.devices.push(Device {
            container_path: path.to_owned(),
            host_path: if permissions == "r" {
                "/dev/kmsg"
            } else {
                "/dev/urandom"
            }
            .to_owned(),
            permissions: permissions.to_owned(),
        });
    }
    lab.look(shape, async |inside| {
        inside
            .outcomes(&[
                ("open=/dev/log-r", "ok"),
                ("write=/dev/log-r:x", "EPERM"),
                ("open=/dev/log-rw", "ok"),
                ("write=/dev/log-rw:x", "ok"),
                ("device=/other:c:1:1", "ok: made, not opened, EPERM"),
            ])
            .await?;
        let outcomes = inside.attempt(&["stat=/dev/log-r"]).await?;
        let outcome = outcomes.get("stat=/dev/log-r").context("no outcome")?;
        same("numbers", outcome.rsplit(' ').next(), Some("1:11"))
    })
    .await
}

pub(crate) async fn a_device_that_is_not_there(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("no-device");
    shape.container.devices.push(Device {
        container_path: "/dev/thing".to_owned(),
        host_path: "/dev/no-such-thing".to_owned(),
        permissions: "rw".to_owned(),
    });
    lab.refuses(shape, &["/dev/no-such-thing"]).await
}

/// A file in /etc/cdi: variables, a device and a mount.
pub(crate) async fn cdi(lab: &mut Lab) -> anyhow::Result<()> {
    fs::create_dir_all("/etc/cdi")?;
    fs::write("/var/cdi-library", "from the vendor")?;
    fs::write(
        "/etc/cdi/skiff-lab.json",
        r#"{"cdiVersion": "0.6.0", "kind": "lab.skiff/thing",
            "devices": [{"name": "one", "containerEdits": {
              "env": ["THING=one"],
              "deviceNodes": [{"path": "/dev/thing0", "hostPath": "/dev/kmsg", "permissions": "r"}]}}],
            "containerEdits": {"mounts": [
              {"hostPath": "/var/cdi-library", "containerPath": "/opt/library", "options": ["ro", "bind"]}]}}"#,
    )?;
    let mut shape = Shape::new("cdi");
    reads_kmsg(&mut shape);
    let device = |name: &str| CdiDevice {
        name: name.to_owned(),
    };
    shape
        .container
        .cdi_devices
        .push(device("lab.skiff/thing=one"));
    // a runtime watches the directory, which takes it a moment
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    lab.look(shape, async |inside| {
        let variable = inside.report.environment.get("THING").map(String::as_str);
        same("THING", variable, Some("one"))?;
        inside
            .outcomes(&[
                ("open=/dev/thing0", "ok"),
                ("write=/dev/thing0:x", "EPERM"),
                ("read=/opt/library", "ok: from the vendor"),
                ("write=/opt/library:x", "EROFS"),
            ])
            .await
    })
    .await?;
    let mut shape = Shape::new("cdi-unknown");
    shape
        .container
        .cdi_devices
        .push(device("lab.skiff/thing=two"));
    lab.refuses(shape, &["lab.skiff/thing=two"]).await
}

/// A raw block volume: the disk is a node at the path that the pod gave it, with the rights it was
/// given.
pub(crate) async fn a_raw_block_volume(lab: &mut Lab) -> anyhow::Result<()> {
    let disks = fs::read_dir("/sys/class/block")?;
    let disk = disks
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| fs::exists(format!("/dev/{name}")).unwrap_or(false));
    let disk = disk.context("no block device on this node")?;
    let numbers = fs::read_to_string(format!("/sys/class/block/{disk}/dev"))?;
    let mut shape = Shape::new("raw-block");
    shape.container.devices.push(Device {
        container_path: "/dev/block".to_owned(),
        host_path: format!("/dev/{disk}"),
        permissions: "r".to_owned(),
    });
    lab.look(shape, async |inside| {
        inside
            .outcomes(&[("open=/dev/block", "ok"), ("write=/dev/block:x", "EPERM")])
            .await?;
        let outcomes = inside.attempt(&["stat=/dev/block"]).await?;
        let outcome = outcomes.get("stat=/dev/block").context("no outcome")?;
        ensure!(outcome.starts_with("ok: 6"), "no block device: {outcome}");
        same("numbers", outcome.rsplit(' ').next(), Some(numbers.trim()))
    })
    .await
}
