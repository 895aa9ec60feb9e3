//! Containers that another OCI runtime makes.

use std::path::Path;

use serde_json::json;
use skiff_shim_proto::message::{
    Adopt, Call, Create, ExternalRuntime, FailureKind, Reply, Rootfs, Update,
};

use crate::daemon::{Shim, host_network, processes, wait_for};
use crate::needs_a_lab;
use crate::scene::Scene;

/// Where Debian has them.
const RUNTIMES: [&str; 2] = ["/usr/sbin/runc", "/usr/bin/crun"];

/// Does the same with every runtime that is there.
fn with_each(test: impl Fn(&Scene, &mut Shim)) {
    for path in RUNTIMES
        .map(Path::new)
        .into_iter()
        .filter(|path| path.exists())
    {
        let (scene, mut shim) = (Scene::new(), Shim::spare());
        let adopt = Adopt {
            external: Some(Box::new(ExternalRuntime {
                path: path.into(),
                arguments: Vec::new(),
                root: scene.path("runtime"),
            })),
            ..host_network()
        };
        let adopted = shim.daemon.ask(Call::Adopt(adopt));
        assert!(matches!(adopted, Ok(Reply::Adopted { .. })), "{adopted:?}");
        test(&scene, &mut shim);
        assert_eq!(shim.complaints(), "", "{}", path.display());
        shim.shutdown();
        assert!(!scene.path("runtime").exists(), "{}", path.display());
    }
}

/// The same container as for our own runtime, with an overlay for a root.
fn container(scene: &Scene, shim: &Shim, id: &str, command: &[&str]) -> Create {
    let create = scene.container(shim.pid, id, command);
    let Rootfs::Directory(lower) = create.rootfs.clone() else {
        panic!()
    };
    let (upper, work) = (
        scene.path(&format!("{id}.upper")),
        scene.path(&format!("{id}.work")),
    );
    for dir in [&upper, &work] {
        std::fs::create_dir(dir).unwrap();
    }
    let mut spec = serde_json::to_value(&create.spec).unwrap();
    let cgroup = create.cgroup.strip_prefix("/sys/fs/cgroup").unwrap();
    spec["linux"]["cgroupsPath"] = json!(Path::new("/").join(cgroup));
    Create {
        spec: serde_json::from_value(spec).unwrap(),
        rootfs: Rootfs::Overlay {
            lower: vec![lower],
            upper,
            work,
        },
        ..create
    }
}

/// Creates and starts a container; nobody can tell how long its parts take another runtime.
fn run(shim: &mut Shim, create: Create) {
    let id = create.id.clone();
    match shim.daemon.ask(Call::Create(Box::new(create))) {
        Ok(Reply::Created {
            pid,
            start_time,
            took: None,
        }) if pid > 0 && start_time > 0 => {}
        other => panic!("{other:?}"),
    }
    match shim.daemon.ask(Call::Start { id }) {
        Ok(Reply::Started { started_at, .. }) if started_at > 0 => {}
        other => panic!("{other:?}"),
    }
}

fn done(reply: Result<Reply, skiff_shim_proto::message::Failure>) {
    assert!(matches!(reply, Ok(Reply::Done)), "{reply:?}");
}

#[test]
fn a_container_of_another_runtime_lives_and_is_gone() {
    needs_a_lab!();
    with_each(|scene, shim| {
        let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let before = mounts();
        let script = "echo out; echo err >&2; exit 3";
        let create = container(scene, shim, "c", &["sh", "-c", script]);
        run(shim, create);
        let exit = shim.daemon.exit("c");
        assert_eq!((exit.code, exit.signal, exit.start_error), (3, 0, None));
        assert!(exit.started_at > 0 && exit.finished_at >= exit.started_at);
        let mut logged = scene.logged("c");
        logged.sort();
        assert_eq!(logged, ["stderr F err", "stdout F out"]);
        assert_eq!(mounts(), before, "the host's mount table has changed");
        done(shim.daemon.ask(Call::Delete { id: "c".into() }));
        assert!(!scene.cgroup("c").exists());
        assert!(!shim.run_dir.join("c").exists());
        assert!(shim.daemon.state().containers.is_empty());
    });
}

#[test]
fn it_is_signalled_updated_and_killed() {
    needs_a_lab!();
    with_each(|scene, shim| {
        let script = "trap 'echo term; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
        let create = container(scene, shim, "c", &["sh", "-c", script]);
        run(shim, create);
        wait_for("its first word", || {
            (scene.logged("c") == ["stdout F ready"]).then_some(())
        });
        let resources = serde_json::from_value(json!({"memory": {"limit": 64 << 20}})).unwrap();
        let update = Update {
            id: "c".into(),
            resources,
            oom_score_adj: None,
        };
        done(shim.daemon.ask(Call::Update(Box::new(update))));
        let limit = std::fs::read_to_string(scene.cgroup("c").join("memory.max")).unwrap();
        assert_eq!(limit.trim(), (64 << 20).to_string());
        let kill = |signal, all| Call::Kill {
            id: "c".into(),
            signal,
            all,
        };
        done(shim.daemon.ask(kill(libc::SIGTERM, false)));
        assert_eq!(shim.daemon.exit("c").code, 5);
        done(shim.daemon.ask(kill(libc::SIGTERM, false)));
        let create = container(scene, shim, "d", &["sleep", "600"]);
        run(shim, create);
        let kill = Call::Kill {
            id: "d".into(),
            signal: libc::SIGKILL,
            all: true,
        };
        done(shim.daemon.ask(kill));
        let exit = shim.daemon.exit("d");
        assert_eq!((exit.code, exit.signal), (137, 9));
    });
}

#[test]
fn it_runs_further_processes() {
    needs_a_lab!();
    with_each(|scene, shim| {
        let create = container(scene, shim, "c", &["sleep", "600"]);
        run(shim, create);
        let script = "cat; echo err >&2; exit 7";
        let exec = scene.exec(1, "c", &["sh", "-c", script]);
        let exec = skiff_shim_proto::message::Exec {
            stdin: true,
            ..exec
        };
        let done = shim.daemon.exec(exec, Some("typed"));
        assert!(
            matches!(done.answer, Ok(Reply::ExecExited { code: 7 })),
            "{done:?}"
        );
        assert_eq!(
            (done.stdout.as_str(), done.stderr.as_str()),
            ("typed", "err\n")
        );
        let exec = scene.exec(2, "c", &["sh", "-c", "tty; exit 4"]);
        let exec = skiff_shim_proto::message::Exec {
            terminal: true,
            ..exec
        };
        let done = shim.daemon.exec(exec, None);
        assert!(
            matches!(done.answer, Ok(Reply::ExecExited { code: 4 })),
            "{done:?}"
        );
        assert_eq!(done.stdout, "/dev/pts/0\r\n");
        // So short that it may have ended before its command has.
        for number in 10..20 {
            let done = shim.daemon.exec(scene.exec(number, "c", &["true"]), None);
            assert!(
                matches!(done.answer, Ok(Reply::ExecExited { code: 0 })),
                "{done:?}"
            );
        }
        let missing = shim
            .daemon
            .exec(scene.exec(3, "c", &["nothing-like-it"]), None);
        assert!(
            missing
                .answer
                .unwrap_err()
                .message
                .contains("nothing-like-it")
        );
        let null = std::fs::File::open("/dev/null").unwrap();
        let fd = std::os::fd::AsFd::as_fd(&null);
        let exec = scene.exec(4, "c", &["sh", "-c", "sleep 601"]);
        let seq = shim.daemon.send(Call::Exec(Box::new(exec)), &[fd, fd]);
        let in_cgroup = |count| {
            let processes = || (processes(&scene.cgroup("c")).len() == count).then_some(());
            wait_for("the processes of the container", processes);
        };
        in_cgroup(2);
        let killed = shim.daemon.ask(Call::KillExec { exec_id: 4 });
        assert!(matches!(killed, Ok(Reply::Done)), "{killed:?}");
        assert!(matches!(
            shim.daemon.answer(seq),
            Ok(Reply::ExecExited { code: 137 })
        ));
        in_cgroup(1);
    });
}

#[test]
fn what_cannot_be_made_leaves_nothing_and_says_why() {
    needs_a_lab!();
    with_each(|scene, shim| {
        let create = container(scene, shim, "c", &["nothing-like-it"]);
        let created = shim.daemon.ask(Call::Create(Box::new(create)));
        // crun looks for the command when it starts it.
        let failure = match created {
            Err(failure) => failure,
            Ok(_) => shim.daemon.ask(Call::Start { id: "c".into() }).unwrap_err(),
        };
        assert!(failure.message.contains("nothing-like-it"), "{failure}");
        done(shim.daemon.ask(Call::Delete { id: "c".into() }));
        assert!(!scene.cgroup("c").exists());
        assert!(!shim.run_dir.join("c").exists());
        let mut shared = container(scene, shim, "d", &["true"]);
        let mount = json!({"destination": "/x", "type": "bind", "source": "/tmp",
                           "options": ["rbind", "rshared"]});
        let mut mounts = shared.spec.mounts().clone().unwrap();
        mounts.push(serde_json::from_value(mount).unwrap());
        shared.spec.set_mounts(Some(mounts));
        let failure = shim.daemon.ask(Call::Create(Box::new(shared))).unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidArgument);
        assert!(failure.message.contains("mount at /x"), "{failure}");
    });
}

#[test]
fn a_terminal_and_memory_of_the_pod() {
    needs_a_lab!();
    with_each(|scene, shim| {
        let script = "tty; echo shared > /dev/shm/word; sleep 600";
        let mut create = container(scene, shim, "c", &["sh", "-c", script]);
        let mut process = create.spec.process().clone().unwrap();
        process.set_terminal(Some(true));
        create.spec.set_process(Some(process));
        run(shim, create);
        wait_for("its first word", || {
            (scene.logged("c") == ["stdout F /dev/pts/0\r"]).then_some(())
        });
        let create = container(scene, shim, "d", &["cat", "/dev/shm/word"]);
        run(shim, create);
        assert_eq!(shim.daemon.exit("d").code, 0);
        assert_eq!(scene.logged("d"), ["stdout F shared"]);
    });
}

#[test]
fn one_that_is_not_wanted_any_more_goes_at_every_moment() {
    needs_a_lab!();
    with_each(|scene, shim| {
        for pause in [0, 1, 5, 20, 60] {
            let create = container(scene, shim, &format!("c{pause}"), &["sleep", "600"]);
            let (id, cgroup) = (create.id.clone(), create.cgroup.clone());
            let seq = shim.daemon.send(Call::Create(Box::new(create)), &[]);
            std::thread::sleep(std::time::Duration::from_millis(pause));
            done(shim.daemon.ask(Call::Delete { id }));
            let _ = shim.daemon.answer(seq);
            assert!(!cgroup.exists());
        }
    });
}
