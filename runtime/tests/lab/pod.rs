//! What containers of a pod share.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde_json::json;
use skiff_runtime::shm::Shm;
use skiff_runtime::{Namespaces, Progress, namespace, pod_init};

use crate::Test;
use crate::fixture::{Container, Lab, More, Running, holds};

pub(crate) const TESTS: &[Test] = &[
    ("containers share one /dev/shm", shared_memory),
    (
        "containers share a PID namespace, whose init reaps",
        shared_pids,
    ),
    (
        "a pod's init ends when it is told to from outside and is alone",
        told_to_end,
    ),
    (
        "the pod's namespaces are inherited, or joined by path",
        inherited,
    ),
    ("a network namespace has a name while it is bound", bound),
];

fn start<'a>(container: &'a Container, more: More<'_>) -> Result<Running<'a>> {
    let (mut running, progress) = container.create_with(more)?;
    ensure!(matches!(progress, Progress::Ready { .. }), "{progress:?}");
    running.start()?;
    Ok(running)
}

fn shared_memory(lab: &Lab) -> Result<()> {
    let shm = Shm::new(1 << 20)?;
    let (one, two) = (
        lab.container("echo hello > /dev/shm/word; sleep 100"),
        lab.container("cat /dev/shm/word; mount | grep shm; stat -c %a /dev/shm"),
    );
    let first = start(
        &one,
        More {
            shm: Some(&shm),
            ..More::default()
        },
    )?;
    first.exec("until [ -s /dev/shm/word ]; do sleep 0.01; done")?;
    let second = start(
        &two,
        More {
            shm: Some(&shm),
            ..More::default()
        },
    )?;
    let (_, output) = second.finish()?;
    holds(
        &output,
        &["hello\n", "nosuid,nodev,noexec", "size=1024k", "\n1777\n"],
    )
}

fn shared_pids(lab: &Lab) -> Result<()> {
    let cgroup = Path::new("/sys/fs/cgroup/skiff-lab-test/init");
    let init = pod_init::spawn(Some(cgroup), None)?;
    let container = lab.container("sh -c 'sleep 0.05 & exit 0'; sleep 100");
    let other = lab.container("sleep 0.3; ps");
    let first = start(
        &container,
        More {
            pid_namespace: Some(init.pidfd.as_fd()),
            ..More::default()
        },
    )?;
    let second = start(
        &other,
        More {
            pid_namespace: Some(init.pidfd.as_fd()),
            ..More::default()
        },
    )?;
    let (_, output) = second.finish()?;
    holds(&output, &["skiff-init", "sleep 100"])?;
    ensure!(!output.contains("[sleep]"), "a zombie is left: {output}");
    let (_, fds) = first.exec("ls /proc/1/fd 2>&1 | wc -l")?;
    ensure!(fds.trim() == "0" || fds.trim() == "1", "{fds}");
    pidfd_send_signal(&init.pidfd, Signal::TERM)?;
    let (code, _) = first.exec("true")?;
    ensure!(code == 0, "the init minds a signal");
    pidfd_send_signal(&init.pidfd, Signal::KILL)?;
    let (code, _) = first.finish()?;
    ensure!(code == 137, "{code}: the namespace outlived its init");
    waitid(WaitId::PidFd(init.pidfd.as_fd()), WaitIdOptions::EXITED)?;
    while !skiff_runtime::cgroup::remove(cgroup)? {}
    Ok(())
}

fn inherited(lab: &Lab) -> Result<()> {
    let kinds = Namespaces::NEWNET | Namespaces::NEWIPC | Namespaces::NEWUTS;
    let host = namespace::save(kinds)?;
    namespace::unshare(kinds)?;
    namespace::loopback_up()?;
    namespace::set_hostname("pod")?;
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", std::process::id());
    let list = json!([
        {"type": "network", "path": path("net")}, {"type": "ipc", "path": path("ipc")},
        {"type": "uts", "path": path("uts")}, {"type": "pid"}, {"type": "mount"},
    ]);
    let mut container = lab
        .container("hostname; readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; ifconfig lo")
        .set("/linux/namespaces", list);
    container
        .tree
        .as_object_mut()
        .map(|tree| tree.remove("hostname"));
    let own = [path("net"), path("ipc")].map(std::fs::read_link);
    let done = (|| {
        for inherit in [kinds, Namespaces::empty()] {
            let _ = std::fs::remove_dir_all(&container.dir);
            let running = start(
                &container,
                More {
                    inherit,
                    ..More::default()
                },
            )?;
            let (_, output) = running.finish()?;
            holds(&output, &["pod\n", "UP LOOPBACK"])?;
            for own in &own {
                let own = own.as_ref().map_err(|e| std::io::Error::from(e.kind()))?;
                holds(&output, &[&own.to_string_lossy()])?;
            }
        }
        Ok(())
    })();
    host.join(kinds)?;
    done
}

fn bound(lab: &Lab) -> Result<()> {
    let path = lab.dir.path().join("netns");
    let host = namespace::save(Namespaces::NEWNET)?;
    namespace::unshare(Namespaces::NEWNET)?;
    let bound = namespace::bind_network(&path);
    host.join(Namespaces::NEWNET)?;
    bound?;
    let mut container = lab.container("ls /sys/class/net");
    if let Some(list) = container.tree["linux"]["namespaces"].as_array_mut() {
        list.push(json!({"type": "network", "path": path}));
    }
    let output = container.output();
    namespace::unbind_network(&path)?;
    ensure!(!path.exists());
    ensure!(output?.lines().any(|line| line == "lo"));
    Ok(())
}

/// systemd stops a scope by SIGTERM to everybody, and waits long for the last.
fn told_to_end(lab: &Lab) -> Result<()> {
    let init = pod_init::spawn(None, None)?;
    let ended = |options| waitid(WaitId::PidFd(init.pidfd.as_fd()), options);
    let now = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let container = lab.container("kill -TERM 1; sleep 1; echo done");
    let running = start(
        &container,
        More {
            pid_namespace: Some(init.pidfd.as_fd()),
            ..More::default()
        },
    )?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    ensure!(ended(now)?.is_none(), "it has heard a container");
    pidfd_send_signal(&init.pidfd, Signal::TERM)?;
    let (code, output) = running.finish()?;
    ensure!(
        code == 0 && output == "done\n",
        "it did not wait: {code} {output:?}"
    );
    let status = ended(WaitIdOptions::EXITED)?;
    let code = status.and_then(|status| status.exit_status());
    ensure!(code == Some(0), "it ended with {code:?}");
    Ok(())
}
