//! Mounts of the configuration and the root file system.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use serde_json::{Value, json};

use crate::Test;
use crate::fixture::{Lab, holds};

pub(crate) const TESTS: &[Test] = &[
    (
        "the root file system is writable or not, as asked",
        root_read_only,
    ),
    ("many layers with long paths, the first on top", layers),
    ("a bind mount is writable or not, as asked", bind_read_only),
    (
        "read-only without recursion leaves what is mounted below",
        bind_recursion,
    ),
    ("a missing bind source is named", missing_source),
    (
        "a destination that is missing, or a link into nothing, is made",
        destinations,
    ),
    (
        "a link cannot lead a mount out of the root",
        links_stay_inside,
    ),
    ("/proc must not be a link", proc_link),
    (
        "a shared volume shares with the host, a private one does not",
        propagation,
    ),
    ("a mount made on the host reaches a slave volume", slave),
    ("file system options are carried out", tmpfs_options),
    (
        "the file system of the cgroup shows the own cgroup, read-only",
        cgroup_mount,
    ),
];

fn root_read_only(lab: &Lab) -> Result<()> {
    let container = lab.container("touch /made 2>&1; touch /tmp/x 2>&1; touch /dev/shm/x; echo $?");
    let output = container.set("/root/readonly", json!(true)).output()?;
    holds(&output, &["/made: Read-only", "/tmp/x: Read-only", "\n0\n"])?;
    let container = lab.container("touch /made");
    container.output()?;
    ensure!(container.dir.join("upper/made").exists());
    Ok(())
}

fn layers(lab: &Lab) -> Result<()> {
    let mut container = lab.container("cat /who");
    let deep = lab.dir.path().join("x".repeat(200)).join("y".repeat(200));
    container.lower = (0..40).map(|n| deep.join(n.to_string())).collect();
    for (n, layer) in container.lower.iter().enumerate() {
        fs::create_dir_all(layer)?;
        fs::write(layer.join("who"), n.to_string())?;
    }
    container.lower.push(lab.image());
    ensure!(container.output()? == "0");
    Ok(())
}

/// A directory of the host with a file in it, and its mount.
fn volume(lab: &Lab, options: &[&str]) -> Result<(PathBuf, Value)> {
    let dir = tempfile::tempdir_in(lab.dir.path())?.keep();
    fs::write(dir.join("file"), "of the host")?;
    let mount = json!({"destination": "/data/volume", "source": dir, "options": options});
    Ok((dir, mount))
}

fn bind_read_only(lab: &Lab) -> Result<()> {
    let script = "cat /data/volume/file; touch /data/volume/made 2>&1; mount | grep data/volume";
    let (_, mount) = volume(lab, &["rbind", "rprivate", "ro", "nosuid", "noexec"])?;
    let output = lab.container(script).mount(mount).output()?;
    holds(
        &output,
        &["of the host", "made: Read-only", "ro,nosuid,noexec"],
    )?;
    let (dir, mount) = volume(lab, &["rbind", "rprivate", "rw"])?;
    lab.container(script).mount(mount).output()?;
    ensure!(dir.join("made").exists());
    Ok(())
}

fn bind_recursion(lab: &Lab) -> Result<()> {
    let (dir, plain) = volume(lab, &["rbind", "ro"])?;
    let (below, source) = (dir.join("below"), tempfile::tempdir_in(lab.dir.path())?);
    fs::create_dir(&below)?;
    mount_bind(source.path(), &below)?;
    let script = "touch /data/volume/below/made; echo $?; touch /data/volume/made 2>&1; true";
    let plain = lab.container(script).mount(plain).output();
    let mount = json!({"destination": "/data/volume", "source": dir, "options": ["rbind", "rro"]});
    let recursive = lab.container(script).mount(mount).output();
    unmount(&below, UnmountFlags::empty())?;
    ensure!(plain?.starts_with("0\n"), "plain ro reached below");
    ensure!(recursive?.starts_with("touch:") || source.path().join("made").exists());
    Ok(())
}

fn missing_source(lab: &Lab) -> Result<()> {
    let mount = json!({"destination": "/x", "source": "/no/such/source", "options": ["bind"]});
    holds(
        &lab.container("true").mount(mount).failure()?,
        &["/no/such/source", "No such file"],
    )
}

fn destinations(lab: &Lab) -> Result<()> {
    let mut container =
        lab.container("cat /etc/resolv.conf; cat /var/run/secrets/file; ls -d /run");
    let layer = tempfile::tempdir_in(lab.dir.path())?.keep();
    fs::create_dir_all(layer.join("etc"))?;
    fs::create_dir_all(layer.join("var"))?;
    symlink("../run/systemd/resolve/stub", layer.join("etc/resolv.conf"))?;
    symlink("/run", layer.join("var/run"))?;
    container.lower.insert(0, layer);
    let (dir, _) = volume(lab, &[])?;
    let file =
        json!({"destination": "/etc/resolv.conf", "source": dir.join("file"), "options": ["bind"]});
    let dir = json!({"destination": "/var/run/secrets", "source": dir, "options": ["bind"]});
    let output = container.mount(file).mount(dir).output()?;
    ensure!(output == "of the hostof the host/run\n", "{output:?}");
    Ok(())
}

fn links_stay_inside(lab: &Lab) -> Result<()> {
    let mut container = lab.container("cat /target/file; ls -d /outside/made");
    let layer = tempfile::tempdir_in(lab.dir.path())?.keep();
    symlink("../../../../../../../target", layer.join("link"))?;
    symlink("/../../outside", layer.join("abs"))?;
    container.lower.insert(0, layer);
    let (dir, _) = volume(lab, &[])?;
    let one = json!({"destination": "/link", "source": dir, "options": ["bind"]});
    let two = json!({"destination": "/abs/made", "source": dir, "options": ["bind"]});
    holds(
        &container.mount(one).mount(two).output()?,
        &["of the host", "/outside/made"],
    )?;
    ensure!(!PathBuf::from("/target").exists() && !PathBuf::from("/outside").exists());
    Ok(())
}

fn proc_link(lab: &Lab) -> Result<()> {
    let mut container = lab.container("true");
    let layer = tempfile::tempdir_in(lab.dir.path())?.keep();
    fs::create_dir(layer.join("elsewhere"))?;
    symlink("/elsewhere", layer.join("proc"))?;
    container.lower = vec![layer, lab.image()];
    holds(&container.failure()?, &["/proc"])
}

/// A shared mount of the host with `options` for the container's volume, mounted on by `script`.
fn with_shared(lab: &Lab, options: &[&str], script: &str) -> Result<(PathBuf, Result<String>)> {
    let (dir, mount) = volume(lab, options)?;
    fs::create_dir(dir.join("sub"))?;
    mount_bind(&dir, &dir)?;
    mount_change(&dir, MountPropagationFlags::SHARED)?;
    let container = lab.container(script).mount(mount).set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"],
            "permitted": ["CAP_SYS_ADMIN"],
        }),
    );
    Ok((dir, container.output()))
}

fn propagation(lab: &Lab) -> Result<()> {
    let script = "mount -t tmpfs inside /data/volume/sub && touch /data/volume/sub/made";
    for (options, reaches) in [
        (["rbind", "rshared"], true),
        (["rbind", "rslave"], false),
        (["rbind", "rprivate"], false),
    ] {
        let (dir, output) = with_shared(lab, &options, script)?;
        let reached = dir.join("sub/made").exists();
        if reached {
            unmount(dir.join("sub"), UnmountFlags::DETACH)?;
        }
        unmount(&dir, UnmountFlags::DETACH)?;
        output?;
        ensure!(reached == reaches, "{options:?}: {reached}");
    }
    Ok(())
}

fn slave(lab: &Lab) -> Result<()> {
    let (dir, mount) = volume(lab, &["rbind", "rslave"])?;
    fs::create_dir(dir.join("sub"))?;
    mount_bind(&dir, &dir)?;
    mount_change(&dir, MountPropagationFlags::SHARED)?;
    let container = lab.container("sleep 100").mount(mount);
    let seen = container.start().and_then(|running| {
        let other = tempfile::tempdir_in(lab.dir.path())?;
        fs::write(other.path().join("late"), "")?;
        mount_bind(other.path(), dir.join("sub"))?;
        let seen = running.exec("ls /data/volume/sub");
        unmount(dir.join("sub"), UnmountFlags::DETACH)?;
        seen
    });
    unmount(&dir, UnmountFlags::DETACH)?;
    ensure!(seen?.1 == "late\n");
    Ok(())
}

fn tmpfs_options(lab: &Lab) -> Result<()> {
    let mount = json!({"destination": "/scratch", "type": "tmpfs", "source": "scratch",
        "options": ["ro", "nodev", "noatime", "mode=700", "size=4096k"]});
    let output = lab
        .container("mount | grep scratch; stat -c %a /scratch")
        .mount(mount)
        .output()?;
    holds(
        &output,
        &[
            "scratch on /scratch",
            "ro,nodev,noatime",
            "size=4096k",
            "\n700\n",
        ],
    )
}

fn cgroup_mount(lab: &Lab) -> Result<()> {
    let script = "cat /proc/self/cgroup; grep -c . /sys/fs/cgroup/cgroup.procs; \
                  mkdir /sys/fs/cgroup/x 2>&1; true";
    let output = lab.container(script).output()?;
    holds(&output, &["0::/\n", "Read-only file system"])
}
