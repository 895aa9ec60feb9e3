//! Pods with a user namespace.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use skiff_shim_proto::message::{Adopt, Call, Create, FailureKind, Reply, Rootfs, UserNamespace};

use crate::daemon::{Shim, host_network, lives, wait_for};
use crate::needs_a_lab;
use crate::scene::Scene;

/// Where the pod's root is on the host.
const FIRST: u32 = 300_000;

fn mapping() -> Value {
    json!([{"containerID": 0, "hostID": FIRST, "size": 65_536}])
}

fn user_namespace() -> Option<UserNamespace> {
    let ids: Vec<_> = serde_json::from_value(mapping()).unwrap();
    Some(UserNamespace {
        uid_mappings: ids.clone(),
        gid_mappings: ids,
    })
}

/// A pod with a network of its own.
pub(crate) fn pod(shim: &Shim, with_user_namespace: bool) -> Adopt {
    Adopt {
        netns: Some(format!("/run/netns/skiff-test-{}", shim.pid).into()),
        hostname: Some("the-pod".into()),
        user_namespace: user_namespace().filter(|_| with_user_namespace),
        sysctls: [
            ("net.ipv4.ping_group_range", "0 2147483647"),
            ("net.ipv4.ip_unprivileged_port_start", "99"),
            ("kernel.shm_rmid_forced", "1"),
            ("fs.mqueue.msg_max", "77"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        ..host_network()
    }
}

fn namespaces(shim: &Shim, pid: Value) -> Vec<Value> {
    let of_shim = |kind: &str| format!("/proc/{}/ns/{kind}", shim.pid);
    vec![
        json!({"type": "mount"}),
        pid,
        json!({"type": "cgroup"}),
        json!({"type": "network", "path": of_shim("net")}),
        json!({"type": "ipc", "path": of_shim("ipc")}),
        json!({"type": "uts", "path": of_shim("uts")}),
    ]
}

fn container(scene: &Scene, shim: &Shim, id: &str, command: &[&str], pid: Value) -> Create {
    let mut namespaces = namespaces(shim, pid);
    namespaces.insert(0, json!({"type": "user"}));
    let mut create = scene.container_in(id, command, namespaces.into());
    let mut mounts = create.spec.mounts().clone().unwrap();
    let queues = json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"});
    mounts.push(serde_json::from_value(queues).unwrap());
    create.spec.set_mounts(Some(mounts));
    let mut linux = create.spec.linux().clone().unwrap();
    let ids: Vec<_> = serde_json::from_value(mapping()).unwrap();
    linux.set_uid_mappings(Some(ids.clone()));
    linux.set_gid_mappings(Some(ids));
    create.spec.set_linux(Some(linux));
    create
}

/// A container `c` whose root file system is an overlay, as a daemon's are.
pub(crate) fn on_overlay(scene: &Scene, shim: &Shim, with_user_namespace: bool) -> Create {
    let command = ["sleep", "600"];
    let mut create = match with_user_namespace {
        true => container(scene, shim, "c", &command, own_pid()),
        false => scene.container_in("c", &command, namespaces(shim, own_pid()).into()),
    };
    let Rootfs::Directory(image) = &create.rootfs else {
        panic!("{:?}", create.rootfs)
    };
    let (upper, work) = (scene.path("upper"), scene.path("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    create.rootfs = Rootfs::Overlay {
        lower: vec![image.clone()],
        upper,
        work,
    };
    create
}

fn own_pid() -> Value {
    json!({"type": "pid"})
}

/// The user namespace that a process's namespace of some kind belongs to.
fn owner(pid: i32, kind: &str) -> u64 {
    let namespace = File::open(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let owner = crate::sys::owner(namespace).unwrap();
    rustix::fs::fstat(owner).unwrap().st_ino
}

fn inode(pid: i32, kind: &str) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/{kind}"))
        .unwrap()
        .ino()
}

fn pid_of(shim: &mut Shim, id: &str) -> i32 {
    let containers = shim.daemon.state().containers;
    containers.iter().find(|c| c.id == id).unwrap().pid
}

#[test]
fn a_pods_namespaces_belong_to_its_user_namespace() {
    needs_a_lab!();
    namespaces_belong(Shim::spare());
}

#[test]
fn namespaces_made_ahead_belong_to_the_pods_user_namespace() {
    needs_a_lab!();
    namespaces_belong(Shim::spare_with_user_namespace());
}

/// Files of /proc/net that only root may read, seen by a process.
fn closed_files(pid: i32) -> Vec<fs::Metadata> {
    let files = ["net", "net/netfilter"].into_iter().flat_map(|name| {
        fs::read_dir(format!("/proc/{pid}/{name}"))
            .into_iter()
            .flatten()
    });
    files
        .map(|file| file.unwrap().metadata().unwrap())
        .filter(|file| file.is_file() && file.mode() & 0o007 == 0)
        .collect()
}

fn namespaces_belong(mut shim: Shim) {
    let scene = Scene::new();
    let hosts = closed_files(std::process::id() as i32);
    let adopt = pod(&shim, true);
    let netns: PathBuf = adopt.netns.clone().unwrap();
    shim.daemon.ask(Call::Adopt(adopt)).unwrap();
    assert_eq!(
        inode(shim.pid, "user"),
        fs::metadata("/proc/self/ns/user").unwrap().ino(),
        "the shim has left the host's user namespace"
    );
    let script = "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start \
                  /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max; \
                  stat -c '%u %g' /dev/mqueue; ip addr show lo; cat /proc/self/uid_map; echo hello >/dev/shm/shared; \
                  cat >/dev/null </dev/null; echo to-stdout >/dev/stdout; sleep 600";
    let create = container(&scene, &shim, "c", &["sh", "-c", script], own_pid());
    shim.daemon.run(create);
    let log = wait_for("all of the output", || {
        let log = scene.logged("c").join("\n");
        log.contains("to-stdout").then_some(log)
    });
    let expected = "stdout F the-pod\nstdout F 99\nstdout F 1\nstdout F 77\nstdout F 0 0\n";
    assert!(log.starts_with(expected), "{log}");
    assert!(
        log.contains("LOOPBACK,UP") && log.contains("300000"),
        "{log}"
    );
    let pid = pid_of(&mut shim, "c");
    let user = inode(pid, "user");
    for kind in ["net", "ipc", "uts", "mnt", "pid", "cgroup"] {
        assert_eq!(owner(pid, kind), user, "{kind}");
    }
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(inode(pid, kind), inode(shim.pid, kind), "{kind}");
    }
    assert_eq!(fs::metadata(&netns).unwrap().ino(), inode(pid, "net"));
    let files = closed_files(pid);
    assert_eq!(files.len(), hosts.len());
    assert!(
        files
            .iter()
            .all(|file| (file.uid(), file.gid()) == (FIRST, FIRST))
    );
    assert!(hosts.iter().all(|file| file.uid() == 0), "the host's own");
    let reader = [
        "sh",
        "-c",
        "cat /dev/shm/shared; readlink /proc/self/ns/user",
    ];
    let create = container(&scene, &shim, "d", &reader, own_pid());
    shim.daemon.run(create);
    assert_eq!(shim.daemon.exit("d").code, 0);
    let seen = scene.logged("d");
    assert_eq!(seen[0], "stdout F hello");
    assert_eq!(
        seen[1],
        format!("stdout F user:[{user}]"),
        "containers share one"
    );
    shim.shutdown();
    assert!(!netns.exists());
}

#[test]
fn an_exec_is_in_the_pods_user_namespace() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::spare());
    let adopt = pod(&shim, true);
    shim.daemon.ask(Call::Adopt(adopt)).unwrap();
    let create = container(&scene, &shim, "c", &["sleep", "600"], own_pid());
    shim.daemon.run(create);
    let script = "readlink /proc/self/ns/user; readlink /proc/1/ns/user; id -u; \
                  echo x >/dev/stdout; echo y >/proc/sys/kernel/core_pattern";
    let done = shim
        .daemon
        .exec(scene.exec(1, "c", &["sh", "-c", script]), None);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines[0], lines[1], "{done:?}");
    assert_eq!(lines[2..], ["0", "x"], "{done:?}");
    assert!(done.stderr.contains("core_pattern"), "{done:?}");
    // A daemon that comes later finds a pod like any other.
    shim.restart_daemon();
    let again = shim
        .daemon
        .exec(scene.exec(2, "c", &["cat", "/proc/self/uid_map"]), None);
    assert!(again.stdout.contains("300000"), "{again:?}");
    let create = container(
        &scene,
        &shim,
        "d",
        &["cat", "/proc/self/uid_map"],
        own_pid(),
    );
    shim.daemon.run(create);
    assert_eq!(shim.daemon.exit("d").code, 0);
    assert!(scene.log("d").contains("300000"));
    shim.shutdown();
}

#[test]
fn a_shared_pid_namespace_belongs_to_the_pods_user_namespace() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::spare());
    let init_cgroup = scene.cgroup("init");
    let adopt = Adopt {
        shared_pid: true,
        init_cgroup: Some(init_cgroup.clone()),
        ..pod(&shim, true)
    };
    let reply = shim.daemon.ask(Call::Adopt(adopt)).unwrap();
    let Reply::Adopted {
        init_pid: Some(init),
        ..
    } = reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!(owner(init, "pid"), inode(init, "user"));
    let pid = json!({"type": "pid", "path": format!("/proc/{init}/ns/pid")});
    let script = "kill -9 1; cat /proc/1/environ; sleep 600";
    let create = container(&scene, &shim, "c", &["sh", "-c", script], pid);
    shim.daemon.run(create);
    wait_for("the refusal", || {
        scene.log("c").contains("Permission denied").then_some(())
    });
    wait_for("the container's own process, in an exec", || {
        let exec = scene.exec(1, "c", &["ps", "-o", "pid,args"]);
        let seen = shim.daemon.exec(exec, None).stdout;
        seen.contains("sleep 600").then_some(())
    });
    assert!(lives(init));
    let container = pid_of(&mut shim, "c");
    assert_eq!(inode(container, "pid"), inode(init, "pid"));
    shim.shutdown();
    assert!(!lives(init) && !init_cgroup.exists());
}

/// What is given to the pod's root must not be the host's: a spare leaves what it made for the host's
/// network.
#[test]
fn a_spare_with_a_user_namespace_can_go_to_the_hosts_network() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::spare_with_user_namespace());
    let adopt = Adopt {
        user_namespace: user_namespace(),
        ..host_network()
    };
    shim.daemon.ask(Call::Adopt(adopt)).unwrap();
    let host = std::process::id() as i32;
    assert_eq!(inode(shim.pid, "net"), inode(host, "net"));
    assert_eq!(inode(shim.pid, "uts"), inode(host, "uts"));
    assert_ne!(inode(shim.pid, "ipc"), inode(host, "ipc"));
    assert!(closed_files(host).iter().all(|file| file.uid() == 0));
    let mut create = container(
        &scene,
        &shim,
        "c",
        &["sh", "-c", "stat -c %u /dev/mqueue"],
        own_pid(),
    );
    let mut linux = create.spec.linux().clone().unwrap();
    let mut namespaces = linux.namespaces().clone().unwrap();
    namespaces.retain(|n| !["network", "uts"].contains(&n.typ().to_string().as_str()));
    linux.set_namespaces(Some(namespaces));
    create.spec.set_linux(Some(linux));
    shim.daemon.run(create);
    assert_eq!(shim.daemon.exit("c").code, 0);
    assert_eq!(scene.logged("c"), ["stdout F 0"]);
    shim.shutdown();
}

#[test]
fn a_spare_with_a_user_namespace_takes_no_other_pod_and_leaves_nothing() {
    needs_a_lab!();
    let mut shim = Shim::spare_with_user_namespace();
    let adopt = pod(&shim, false);
    let failure = shim.daemon.ask(Call::Adopt(adopt)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidArgument, "{failure}");
    shim.expect_end();
    let mut unused = Shim::spare_with_user_namespace();
    let children = format!("/proc/{0}/task/{0}/children", unused.pid);
    let first: i32 = fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    unused.lose_daemon();
    unused.expect_end();
    wait_for("the end of the namespace's first process", || {
        (!lives(first)).then_some(())
    });
}

#[test]
fn a_container_with_another_user_namespace_than_its_pods_is_refused() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::spare());
    let adopt = pod(&shim, true);
    shim.daemon.ask(Call::Adopt(adopt)).unwrap();
    let mut other = container(&scene, &shim, "c", &["true"], own_pid());
    let mut linux = other.spec.linux().clone().unwrap();
    let ids = json!([{"containerID": 0, "hostID": 1, "size": 10}]);
    linux.set_uid_mappings(serde_json::from_value(ids).unwrap());
    other.spec.set_linux(Some(linux));
    let failure = shim.daemon.ask(Call::Create(Box::new(other))).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidArgument, "{failure}");
    assert!(failure.message.contains("linux.uidMappings"), "{failure}");
    let mut none = container(&scene, &shim, "d", &["true"], own_pid());
    let mut linux = none.spec.linux().clone().unwrap();
    linux.set_uid_mappings(None).set_gid_mappings(None);
    let mut namespaces = linux.namespaces().clone().unwrap();
    namespaces.remove(0);
    linux.set_namespaces(Some(namespaces));
    none.spec.set_linux(Some(linux));
    let failure = shim.daemon.ask(Call::Create(Box::new(none))).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidArgument, "{failure}");
    shim.shutdown();
}

#[test]
fn an_adoption_with_mappings_that_cannot_be_leaves_nothing() {
    needs_a_lab!();
    let mut shim = Shim::spare();
    let mut adopt = pod(&shim, true);
    if let Some(user) = &mut adopt.user_namespace {
        user.gid_mappings.clear();
    }
    let netns = adopt.netns.clone().unwrap();
    let failure = shim.daemon.ask(Call::Adopt(adopt)).unwrap_err();
    assert!(failure.message.contains("gidMappings"), "{failure}");
    shim.expect_end();
    assert!(!netns.exists());
}
