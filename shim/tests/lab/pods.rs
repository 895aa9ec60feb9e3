//! Spares, pods, and what they are made of.

use std::path::PathBuf;

use skiff_shim_proto::message::{Adopt, Call, Event, FailureKind, Reply};

use crate::daemon::{Shim, host_network, lives, wait_for};
use crate::needs_a_lab;
use crate::scene::Scene;

fn signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn mounted(path: &std::path::Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == path.to_str())
}

#[test]
fn a_spare_ends_with_its_channel_or_a_signal() {
    needs_a_lab!();
    let mut signalled = Shim::spare();
    signal(signalled.pid, rustix::process::Signal::TERM);
    signalled.expect_end();
    let mut left = Shim::spare();
    left.lose_daemon();
    left.expect_end();
    let mut cheated = Shim::spare();
    cheated.daemon.send_bytes(b"\x01");
    cheated.expect_end();
}

#[test]
fn a_spare_is_adopted_once() {
    needs_a_lab!();
    let mut shim = Shim::spare();
    assert_eq!(shim.daemon.state().pod_id, None);
    let early = shim
        .daemon
        .ask(Call::Create(Box::new(Scene::new().container(
            1,
            "c",
            &["true"],
        ))));
    assert_eq!(early.unwrap_err().kind, FailureKind::InvalidState);
    shim.daemon.ask(Call::Adopt(host_network())).unwrap();
    let again = shim.daemon.ask(Call::Adopt(host_network())).unwrap_err();
    assert_eq!(again.kind, FailureKind::InvalidState);
    for number in [rustix::process::Signal::TERM, rustix::process::Signal::HUP] {
        signal(shim.pid, number);
    }
    assert_eq!(shim.daemon.state().pod_id, Some("a".repeat(64)));
    shim.shutdown();
}

#[test]
fn a_spare_can_be_shut_down() {
    needs_a_lab!();
    Shim::spare().shutdown();
}

#[test]
fn an_adoption_that_fails_leaves_nothing() {
    needs_a_lab!();
    let mut shim = Shim::spare();
    let adopt = Adopt {
        netns: Some("/absent/directory/netns".into()),
        ..host_network()
    };
    let failure = shim.daemon.ask(Call::Adopt(adopt)).unwrap_err();
    assert!(failure.message.contains("/absent/directory"), "{failure}");
    shim.expect_end();
}

#[test]
fn a_pod_has_its_own_namespaces() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::spare());
    let netns = PathBuf::from(format!("/run/netns/skiff-test-{}", shim.pid));
    let host_name = rustix::system::uname().nodename().to_owned();
    let adopt = Adopt {
        netns: Some(netns.clone()),
        hostname: Some("the-pod".into()),
        sysctls: [(
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "99".to_owned(),
        )]
        .into(),
        shm_size: 8 << 20,
        mount_label: None,
        ..host_network()
    };
    shim.daemon.ask(Call::Adopt(adopt)).unwrap();
    assert!(mounted(&netns));
    let namespaces = serde_json::json!([
        {"type": "mount"},
        {"type": "pid"},
        {"type": "network", "path": netns},
        {"type": "ipc", "path": format!("/proc/{}/ns/ipc", shim.pid)},
        {"type": "uts", "path": format!("/proc/{}/ns/uts", shim.pid)},
    ]);
    let script = "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; df -m /dev/shm; \
                  ip addr show lo; echo hello >/dev/shm/shared; sleep 600";
    let command = ["sh", "-c", script];
    shim.daemon
        .run(scene.container_in("c", &command, namespaces.clone()));
    let log = wait_for("all of the output", || {
        let log = scene.logged("c").join("\n");
        log.contains("127.0.0.1/8").then_some(log)
    });
    assert!(log.starts_with("stdout F the-pod\nstdout F 99\n"), "{log}");
    assert!(log.contains(" 8 "), "{log}");
    assert!(log.contains("LOOPBACK,UP"), "{log}");
    wait_for("the file", || {
        let exec = scene.exec(1, "c", &["cat", "/dev/shm/shared"]);
        (shim.daemon.exec(exec, None).stdout == "hello\n").then_some(())
    });
    let reader = scene.container_in("d", &["cat", "/dev/shm/shared"], namespaces);
    shim.daemon.run(reader);
    assert_eq!(shim.daemon.exit("d").code, 0);
    assert_eq!(scene.logged("d"), ["stdout F hello"]);
    let hosts = scene.container_in("e", &["true"], serde_json::json!([{"type": "mount"}]));
    let failure = shim.daemon.ask(Call::Create(Box::new(hosts))).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidArgument);
    assert_eq!(rustix::system::uname().nodename(), &*host_name);
    shim.shutdown();
    assert!(!mounted(&netns) && !netns.exists());
}

#[test]
fn a_pid_namespace_is_shared() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::spare());
    let init_cgroup = scene.cgroup("init");
    let adopt = Adopt {
        shared_pid: true,
        init_cgroup: Some(init_cgroup.clone()),
        ..host_network()
    };
    let init = match shim.daemon.ask(Call::Adopt(adopt)).unwrap() {
        Reply::Adopted {
            init_pid: Some(pid),
            ..
        } => pid,
        other => panic!("{other:?}"),
    };
    let namespaces = serde_json::json!([
        {"type": "mount"},
        {"type": "pid", "path": format!("/proc/{init}/ns/pid")},
        {"type": "ipc", "path": format!("/proc/{}/ns/ipc", shim.pid)},
    ]);
    let script = "setsid sleep 599 & sleep 600";
    let container = |id: &str| scene.container_in(id, &["sh", "-c", script], namespaces.clone());
    shim.daemon.run(container("c"));
    shim.daemon.run(container("d"));
    let seen = shim
        .daemon
        .exec(scene.exec(1, "c", &["ps", "-o", "pid,args"]), None)
        .stdout;
    assert!(
        seen.contains("skiff-init") || seen.contains("skiff-shim"),
        "{seen}"
    );
    assert!(seen.matches("sleep 600").count() >= 2, "{seen}");
    // One container's end takes its own processes along and no other's.
    shim.daemon
        .ask(Call::Kill {
            id: "c".into(),
            signal: 9,
            all: false,
        })
        .unwrap();
    assert_eq!(shim.daemon.exit("c").code, 137);
    wait_for("the rest of c", || {
        crate::daemon::processes(&scene.cgroup("c"))
            .is_empty()
            .then_some(())
    });
    assert!(
        shim.daemon
            .state()
            .containers
            .iter()
            .any(|c| c.id == "d" && c.exit.is_none())
    );
    signal(init, rustix::process::Signal::KILL);
    let (mut told, mut ended) = (false, false);
    while !(told && ended) {
        match shim.daemon.event() {
            Event::Broken { reason } => {
                assert!(reason.contains("PID namespace"), "{reason}");
                told = true;
            }
            Event::Exited(record) => ended = record.id == "d" && record.code == 137,
            other => panic!("{other:?}"),
        }
    }
    let failure = shim
        .daemon
        .ask(Call::Create(Box::new(container("e"))))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidState);
    let broken = shim.daemon.state().broken.unwrap();
    assert!(broken.contains("PID namespace"), "{broken}");
    shim.shutdown();
    assert!(!init_cgroup.exists());
}

#[test]
fn a_shared_pid_namespace_ends_with_its_pod() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::spare());
    let init_cgroup = scene.cgroup("init");
    let adopt = Adopt {
        shared_pid: true,
        init_cgroup: Some(init_cgroup.clone()),
        ..host_network()
    };
    let reply = shim.daemon.ask(Call::Adopt(adopt)).unwrap();
    let Reply::Adopted {
        init_pid: Some(init),
        ..
    } = reply
    else {
        panic!("{reply:?}")
    };
    assert!(lives(init));
    shim.shutdown();
    assert!(!lives(init));
    assert!(!init_cgroup.exists());
}
